// SPDX-License-Identifier: Apache-2.0
// The system's Chromium, and the command line beside which the page is held.
import { spawnSync } from "node:child_process";
import { test as base, type BrowserContext, type Page } from "@playwright/test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "@playwright/test";

export const ROOT = new URL("../../", import.meta.url).pathname;
export const VECTORS = join(ROOT, "tests/vectors");

/** The first of these programs that is in the path. */
function found(...names: string[]): string {
  for (const name of names) {
    const where = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim();
    if (where) return where;
  }
  throw new Error(`none of ${names.join(", ")} is installed`);
}

export const CHROMIUM = process.env["CHROMIUM"] ?? found("chromium", "chromium-browser", "google-chrome-stable", "google-chrome");

/** The command line of the same sources. */
export const BLEDFU =
  process.env["BLEDFU"] ??
  ["release", "debug"].map((profile) => join(ROOT, "rust/target", profile, "bledfu")).find(existsSync) ??
  "bledfu";

export function bledfu(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(BLEDFU, args, { encoding: "utf8", maxBuffer: 64 << 20 });
  return { code: status, stdout, stderr };
}

/** A browser of its own, with the environment of a test; it is gone with the test. */
export async function launch(env: Record<string, string> = {}): Promise<{ context: BrowserContext; close: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "bledfu-web-"));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: CHROMIUM,
    headless: true,
    args: ["--enable-features=WebBluetooth", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
    env: { ...(process.env as Record<string, string>), ...env },
  });
  return {
    context,
    close: async () => {
      await context.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Waits until the page works. */
export async function settled(page: Page): Promise<void> {
  await page.waitForSelector("html[data-ready]");
}

/** Tests with a page in the system's Chromium; whatever the page refuses by its policy, or reports as an error, fails them. */
export const test = base.extend<{ page: Page }>({
  page: async ({ baseURL }, use) => {
    const { context, close } = await launch();
    const page = context.pages()[0] ?? (await context.newPage());
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") complaints.push(message.text());
    });
    await page.goto(baseURL!);
    await settled(page);
    await use(page);
    await close();
    if (complaints.length) throw new Error(complaints.join("\n"));
  },
});

export { expect } from "@playwright/test";
