// SPDX-License-Identifier: Apache-2.0
// What a visitor downloads, compressed as servers do it; more than the limit fails the build.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

// Browsers with Web Bluetooth take Brotli from every server that offers it. Where only gzip is offered it is a quarter more.
const LIMITS = {
  rebuilt: { brotli: 350_000, gzip: 425_000 },
  // With the std of the compiler, which carries the texts of panics.
  precompiled: { brotli: 450_000, gzip: 560_000 },
};
const std = readFileSync(new URL("src/wasm/std", import.meta.url), "utf8").trim();
const folder = new URL("dist/", import.meta.url).pathname;
const total = { brotli: 0, gzip: 0 };
console.log("  Brotli      gzip");
for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name.endsWith(".d.ts")) continue;
  const path = join(entry.parentPath ?? entry.path, entry.name);
  const bytes = readFileSync(path);
  const brotli = brotliCompressSync(bytes).length;
  const gzip = gzipSync(bytes, { level: 9 }).length;
  total.brotli += brotli;
  total.gzip += gzip;
  console.log(`${String(brotli).padStart(8)}  ${String(gzip).padStart(8)}  ${path.slice(folder.length)}`);
}
console.log(`${String(total.brotli).padStart(8)}  ${String(total.gzip).padStart(8)}  in all`);
for (const [name, limit] of Object.entries(LIMITS[std])) {
  if (total[name] > limit) {
    console.error(`the page has ${total[name]} bytes with ${name}, ${limit} are the limit (std ${std})`);
    process.exitCode = 1;
  }
}
