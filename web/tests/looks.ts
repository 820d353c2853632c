// SPDX-License-Identifier: Apache-2.0
// How the page looks: at two widths, in both themes, with axe.
import AxeBuilder from "@axe-core/playwright";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT, expect } from "./browser.js";
import type { Page } from "@playwright/test";

const WIDTHS = [360, 1280];
const THEMES = ["light", "dark"] as const;
const FOLDER = join(ROOT, "web/screenshots");

/** What must be so for a screenshot, and how it ends: for states that do not last. */
interface Moment {
  begin: () => Promise<void>;
  end: () => Promise<void>;
}

/** At each width and in each theme: nothing sticks out, axe finds nothing, and a screenshot is written. */
export async function look(page: Page, name: string, moment?: Moment): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 800 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(over, `${name} is wider than ${width} pixels`).toBe(0);
    for (const theme of THEMES) {
      await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
      await moment?.begin();
      await page.screenshot({ path: join(FOLDER, `${name}-${theme}-${width}.png`), fullPage: true });
      await moment?.end();
      const { violations } = await new AxeBuilder({ page }).analyze();
      expect(violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`), `${name}, ${width}, ${theme}`).toEqual([]);
    }
  }
}
