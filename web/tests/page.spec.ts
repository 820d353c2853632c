// SPDX-License-Identifier: Apache-2.0
// The page itself: policy, offline, sizes of screen, themes, keyboard, and what screen readers need.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { VECTORS, expect, settled, test } from "./browser.js";
import { look } from "./looks.js";

test("the page allows no script, style or connection but its own", async ({ page, baseURL }) => {
  const policy = await page.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute("content");
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe-inline");
  expect(policy).not.toContain(" 'unsafe-eval'");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.reload();
  await settled(page);
  await page.goto("./#inspect");
  await page.locator("#inspect-file").setInputFiles(join(VECTORS, "packages/small-2.0.0.zip"));
  await expect(page.locator("#inspect-result .notice")).toBeVisible();
  expect(asked.length).toBeGreaterThan(3);
  expect(asked.filter((url) => !url.startsWith(baseURL!))).toEqual([]);
});

test("after the first visit the page works without a network", async ({ page }) => {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await settled(page);
  await page.context().setOffline(true);
  await page.reload();
  await settled(page);
  await page.goto("./#explain");
  await page.locator("#explain-text").fill(readFileSync(join(VECTORS, "logs/L12-B1-7.log"), "utf8"));
  await page.getByRole("button", { name: "Explain" }).click();
  await expect(page.locator("[data-verdict]")).toHaveAttribute("data-verdict", "B1 @7");
  await page.context().setOffline(false);
});

test("everything can be reached and run with the keyboard alone", async ({ page }) => {
  await page.keyboard.press("Tab");
  await expect(page.getByText("Skip to content")).toBeFocused();
  for (const name of ["Update", "Inspect", "Explain"]) {
    await page.keyboard.press("Tab");
    await expect(page.getByRole("link", { name })).toBeFocused();
  }
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Explain a log" })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.locator("#explain-file")).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.insertText("I: Image index: 0, Swap type: test\nE: Image in the secondary slot is not valid!\n");
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Explain" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("[data-verdict]")).toHaveAttribute("data-verdict", "B1 @2");
});

test("no view sticks out of a narrow or wide screen in either theme, and axe finds nothing", async ({ page }) => {
  test.slow();
  await page.goto("./#update");
  await page.locator("#update-file").setInputFiles({
    name: "a-product-with-a-very-long-name-that-no-screen-was-made-for-and-its-version-2.0.0-rc.1+build.4711.signed.bin",
    mimeType: "application/octet-stream",
    buffer: Buffer.alloc(4096),
  });
  await look(page, "update-long-name");
  await page.goto("./#inspect");
  await look(page, "inspect-idle");
  await page.locator("#inspect-file").setInputFiles(join(VECTORS, "packages/medium-2.3.4.zip"));
  await expect(page.locator("#inspect-result .notice")).toBeVisible();
  await look(page, "inspect");
  await page.locator("#inspect-file").setInputFiles([
    { name: "internal.bin", mimeType: "application/octet-stream", buffer: device() },
    { name: "external.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(8 << 20, 0xff) },
  ]);
  await expect(page.locator("#inspect-result")).toContainText("next boot");
  await page.getByText("Keys and what is known about the device").click();
  await look(page, "inspect-device");
  await page.goto("./#explain");
  await look(page, "explain-idle");
  await page.locator("#explain-text").fill(readFileSync(join(VECTORS, "logs/case_bank1_on_qspi-S1-111.log"), "utf8"));
  await page.getByRole("button", { name: "Explain" }).click();
  await expect(page.locator("[data-verdict]").first()).toBeVisible();
  await look(page, "explain");
});

test("a browser without Bluetooth is told at once, and explains files all the same", async ({ page }) => {
  await page.addInitScript(() => Object.defineProperty(navigator, "bluetooth", { value: undefined }));
  await page.reload();
  await settled(page);
  await expect(page.locator("#update-obstacle")).toContainText("This browser offers no Bluetooth to pages");
  await expect(page.getByRole("button", { name: "Choose device…" })).toBeDisabled();
  await look(page, "update-without-bluetooth");
});

/** The processor's flash of a device that runs 1.0.0. */
function device(): Buffer {
  const dump = Buffer.alloc(1 << 20, 0xff);
  readFileSync(join(VECTORS, "images/small-1.0.0.signed.bin")).copy(dump, 0xd000);
  return dump;
}
