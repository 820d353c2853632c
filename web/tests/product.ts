// SPDX-License-Identifier: Apache-2.0
// The page as a product hosts it: the build on a static server, with files of the product's own beside it.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { ROOT, VECTORS, bledfu } from "./browser.js";

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".json": "application/json",
};

/** A static server: the folder of the product first, then the page. */
export class Product {
  private constructor(
    /** Files that the server has besides the page. */
    readonly folder: string,
    private readonly server: Server,
  ) {}

  static async host(config: object): Promise<Product> {
    const folder = mkdtempSync(join(tmpdir(), "bledfu-product-"));
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
    const folders = [folder, join(ROOT, "web/dist")];
    const server = createServer((request, response) => {
      const path = normalize(new URL(request.url ?? "/", "http://host").pathname).replace(/\/$/, "/index.html");
      const found = folders.map((root) => join(root, path)).find((file) => existsSync(file) && statSync(file).isFile());
      response.writeHead(found ? 200 : 404, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(found ? readFileSync(found) : "");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Product(folder, server);
  }

  get address(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/`;
  }

  end(): void {
    this.server.closeAllConnections();
    this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Makes the packed updates to an image of the vectors with `bledfu diff`, and their index.json, in a folder that is not there yet. */
export function release(folder: string, to: string, from: string[]): void {
  const image = (name: string) => join(VECTORS, "images", `${name}.signed.bin`);
  const keys = ["--key", join(VECTORS, "keys/image.pem"), "--package-key", join(VECTORS, "keys/package.pem")];
  const versions = ["--hw-version", "52", "--fw-version", "2"];
  const bases = from.flatMap((name) => ["--from", image(name)]);
  const { code, stderr } = bledfu("diff", "--trial", ...keys, ...versions, ...bases, "--full", "--to", image(to), "--output", folder);
  if (code !== 0) throw new Error(stderr);
}
