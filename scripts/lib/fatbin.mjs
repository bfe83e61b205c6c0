// For which GPUs a library holds machine code and for which PTX, read from its fat binaries. cuobjdump would be one more download.

import { readFileSync } from 'node:fs';

const magic = 0xba55ed50;
const kinds = { 1: 'compute', 2: 'sm' };

/** `sm_90`, `compute_90`, ...: in how many of the library's fat binaries each is. */
export function architectures(path) {
  const bytes = readFileSync(path);
  const counts = {};
  const needle = Buffer.alloc(4);
  needle.writeUInt32LE(magic);
  for (let place = bytes.indexOf(needle); place >= 0; place = bytes.indexOf(needle, place + 4)) {
    // Fat binaries begin at multiples of 8; the same bytes elsewhere are something else.
    if (place % 8 !== 0) continue;
    for (const name of entries(bytes, place)) counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Header: magic, version, its own length, length of all entries. Entry: kind, version, header length, length, ..., architecture. */
function* entries(bytes, start) {
  const end = start + bytes.readUInt16LE(start + 6) + Number(bytes.readBigUInt64LE(start + 8));
  let place = start + bytes.readUInt16LE(start + 6);
  while (place + 32 <= end) {
    const kind = kinds[bytes.readUInt16LE(place)];
    const headerLength = bytes.readUInt32LE(place + 4);
    if (kind === undefined || headerLength === 0) return;
    yield `${kind}_${bytes.readUInt32LE(place + 28)}`;
    place += headerLength + Number(bytes.readBigUInt64LE(place + 8));
  }
}
