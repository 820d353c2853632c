// SPDX-License-Identifier: Apache-2.0
// Loads the Rust part, once.
import init from "./wasm/bledfu_web.js";

let loading: Promise<unknown> | undefined;

/** Resolves when the Rust part can be called. */
export async function ready(): Promise<void> {
  loading ??= init();
  await loading;
}
