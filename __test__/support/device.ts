// Loaded before each file of tests when FLATMIN_TEST_DEVICE names a device: models that name none are made there.
import { load } from '../../src/index.js';

await load({ device: process.env.FLATMIN_TEST_DEVICE as 'cuda' });
