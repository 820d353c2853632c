// SPDX-License-Identifier: Apache-2.0
// What a visitor downloads, compressed as servers do it; more than the limit fails the build.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

// The aim is 350 KiB. Most is the simulated device to which logs are played, and the regular expressions of the formats of logs.
const LIMIT = 640 * 1024;
const folder = new URL("dist/", import.meta.url).pathname;
let total = 0;
for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name.endsWith(".d.ts")) continue;
  const path = join(entry.parentPath ?? entry.path, entry.name);
  const size = gzipSync(readFileSync(path), { level: 9 }).length;
  total += size;
  console.log(`${String(size).padStart(8)}  ${path.slice(folder.length)}`);
}
console.log(`${String(total).padStart(8)}  in all, of ${LIMIT}`);
if (total > LIMIT) {
  console.error(`the page has ${total} compressed bytes, ${LIMIT} are the limit`);
  process.exit(1);
}
