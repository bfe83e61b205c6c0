// Imported before everything else where a GPU is emulated: lets Node see the sign of a driver that this package looks for.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { existsSync } = fs;
fs.existsSync = (path) => path === '/dev/nvidiactl' || existsSync(path);
syncBuiltinESMExports();
