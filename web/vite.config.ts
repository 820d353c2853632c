// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { defineConfig, type Plugin } from "vite";

/** The service worker: keeps every file of the build, and is new with each build. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    generateBundle(_, bundle) {
      const hash = createHash("sha256");
      const files = ["./", "./icon.svg", "./manifest.webmanifest"];
      for (const [name, file] of Object.entries(bundle)) {
        hash.update(name).update(file.type === "chunk" ? file.code : file.source);
        if (name !== "index.html") files.push(`./${name}`);
      }
      const source = `// SPDX-License-Identifier: Apache-2.0
const CACHE = "bledfu-${hash.digest("hex").slice(0, 16)}";
const FILES = ${JSON.stringify(files)};
self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => Promise.all(names.filter((name) => name.startsWith("bledfu-") && name !== CACHE).map((name) => caches.delete(name))));
  event.waitUntil(old.then(() => self.clients.claim()));
});
// The configuration and the releases come from the server while there is one, so that they are new; the page itself is kept.
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  event.respondWith(answer(event.request));
});
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true, ignoreVary: true });
  if (kept) return kept;
  try {
    const fresh = await fetch(request);
    if (fresh.ok && new URL(request.url).pathname.endsWith("config.json")) await cache.put("config-kept", fresh.clone());
    return fresh;
  } catch (error) {
    const last = new URL(request.url).pathname.endsWith("config.json") && (await cache.match("config-kept"));
    if (last) return last;
    throw error;
  }
}
`;
      this.emitFile({ type: "asset", fileName: "sw.js", source });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [offline()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { main: "index.html", updater: "src/updater/index.ts" },
      preserveEntrySignatures: "allow-extension",
      output: { entryFileNames: (chunk) => (chunk.name === "updater" ? "updater.js" : "assets/[name]-[hash].js") },
    },
  },
});
