// SPDX-License-Identifier: Apache-2.0
// The configuration of a product: config.json beside the page. Everything may be left out.

export interface Config {
  title?: string;
  accent?: { light?: string; dark?: string };
  device?: { name_prefix?: string };
  /** Address of a release's index.json, from the page. */
  release?: string;
  /** Addresses of public keys (PEM), from the page. */
  keys?: { package?: string; image?: string };
  mode?: "confirm" | "test";
}

/** The configuration, and the text of the keys that it names. */
export interface Loaded extends Config {
  packageKey?: string;
  imageKey?: string;
}

async function text(address: string | undefined): Promise<string | undefined> {
  if (!address) return undefined;
  const answer = await fetch(new URL(address, document.baseURI)).catch(() => undefined);
  return answer?.ok ? answer.text() : undefined;
}

/** Reads it, and applies what is only looks. A page without one is the page of the project. */
export async function load(): Promise<Loaded> {
  let config: Config = {};
  try {
    config = JSON.parse((await text("config.json")) ?? "{}");
  } catch {
    console.warn("config.json is damaged; the page goes on without it");
  }
  if (config.title) {
    document.title = config.title;
    document.getElementById("product")!.textContent = config.title;
  }
  const { style } = document.documentElement;
  if (config.accent?.light) style.setProperty("--accent-light", config.accent.light);
  if (config.accent?.dark) style.setProperty("--accent-dark", config.accent.dark);
  const [packageKey, imageKey] = await Promise.all([text(config.keys?.package), text(config.keys?.image)]);
  return { ...config, ...(packageKey ? { packageKey } : {}), ...(imageKey ? { imageKey } : {}) };
}
