// Writes small zip files (wheels are zip files) without a dependency: stored entries, no compression.
import { writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';

/** Writes `entries` (name to content) as a zip file; `wrongCrc` spoils the checksum of one entry. */
export function writeZip(path: string, entries: Readonly<Record<string, string>>, wrongCrc?: string): void {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(entries)) {
    const [nameBytes, content] = [Buffer.from(name), Buffer.from(text)];
    const common = header(content, nameBytes.length, name === wrongCrc);
    local.push(signature(0x04034b50), common, nameBytes, content);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    central.push(signature(0x02014b50), Buffer.from([20, 0]), common, place, nameBytes);
    offset += 4 + common.length + nameBytes.length + content.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  const count = Object.keys(entries).length;
  end.writeUInt16LE(count, 4);
  end.writeUInt16LE(count, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  writeFileSync(path, Buffer.concat([...local, directory, signature(0x06054b50), end]));
}

function signature(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** The part that an entry's local and central headers have in common. */
function header(content: Buffer, nameLength: number, spoiled: boolean): Buffer {
  const bytes = Buffer.alloc(26);
  bytes.writeUInt16LE(20, 0);
  bytes.writeUInt32LE((crc32(content) ^ (spoiled ? 1 : 0)) >>> 0, 10);
  bytes.writeUInt32LE(content.length, 14);
  bytes.writeUInt32LE(content.length, 18);
  bytes.writeUInt16LE(nameLength, 22);
  return bytes;
}
