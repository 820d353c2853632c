// SPDX-License-Identifier: Apache-2.0
// Whole updates of a device of `bledfu serve`, through Chromium's real Web Bluetooth.
import { join } from "node:path";
import { VECTORS, expect, test } from "./browser.js";
import { Room, missing } from "./room.js";

test.skip(missing() !== undefined, missing());

let room: Room | undefined;

test.afterEach(async () => {
  await room?.end();
  room = undefined;
});

async function open(baseURL: string | undefined, ...options: string[]): Promise<Room> {
  room = await Room.open(baseURL!, options);
  return room;
}

/** Chooses file and device, and starts. */
async function begin({ page }: Room, file: string, protocol: "secure-dfu" | "smp"): Promise<void> {
  await page.locator("#update-file").setInputFiles(join(VECTORS, file));
  await page.getByRole("button", { name: "Choose device…" }).click();
  await expect(page.locator("#update-device")).toHaveText("lamp", { timeout: 20_000 });
  await page.getByText("Options", { exact: true }).click();
  await page.getByLabel("Protocol").selectOption(protocol);
  await page.getByRole("button", { name: "Start" }).click();
}

/** The result. With flash in real time an install alone takes half a minute. */
async function conclusion(device: Room, timeout = 150_000): Promise<string> {
  const { page } = device;
  try {
    await expect(page.locator("#update-result")).toBeVisible({ timeout });
  } catch {
    throw new Error(`no result in ${timeout / 1000} s:\n${await history(device)}\n${await page.locator("#update-progress").innerText()}`);
  }
  return page.locator("#update-result").innerText();
}

async function history({ page }: Room): Promise<string> {
  return (await page.locator("#update-log li").allTextContents()).join("\n");
}

/** Waits until this many bytes are sent. */
async function sent({ page }: Room, bytes: number): Promise<void> {
  await page.waitForFunction((least) => (document.getElementById("update-bar") as HTMLProgressElement).value >= least, bytes, { timeout: 60_000 });
}

for (const protocol of ["secure-dfu", "smp"] as const) {
  test(`${protocol}: a fresh update runs to its end and is confirmed`, async ({ baseURL }) => {
    const device = await open(baseURL);
    await begin(device, "packages/medium-2.3.4.zip", protocol);
    expect(await conclusion(device)).toContain("2.3.4+5 runs");
    expect(await history(device)).toContain("The device runs 1.0.0");
    expect(await device.command("restart")).toEqual({ version: "2.3.4+5", state: "confirmed" });
  });

  test(`${protocol}: a device whose power is cut in the middle goes on where it was`, async ({ baseURL }) => {
    const device = await open(baseURL, "--flash-time", "real");
    await begin(device, "packages/demo-2.0.0.zip", protocol);
    await sent(device, 50_000);
    await device.page.evaluate(() => {
      const bar = document.getElementById("update-bar") as HTMLProgressElement;
      const seen = window as unknown as { least: number };
      seen.least = bar.value;
      setInterval(() => {
        if (bar.position >= 0) seen.least = Math.min(seen.least, bar.value);
      }, 20);
    });
    await device.command("restart");
    expect(await conclusion(device)).toContain("2.0.0 runs");
    // At most the open object is sent again: 32 KiB.
    expect(await device.page.evaluate(() => (window as unknown as { least: number }).least)).toBeGreaterThan(16_000);
    const told = await history(device);
    expect(told).toContain("the link was lost");
    // Over SMP it is the same upload that goes on.
    if (protocol === "secure-dfu") expect(told).toMatch(/The device holds [\d,]+ bytes already/);
    expect(await device.command("restart")).toEqual({ version: "2.0.0", state: "confirmed" });
  });

  test(`${protocol}: a file of another product is refused in the words of the command line, and the old version runs`, async ({ baseURL }) => {
    const wrong = protocol === "smp" ? ["--image-key"] : ["--public-key"];
    const device = await open(baseURL, ...wrong, join(VECTORS, `keys/other-${protocol === "smp" ? "image" : "package"}.pem`));
    await begin(device, "packages/small-2.0.0.zip", protocol);
    const told = await conclusion(device);
    expect(told).toMatch(/^the device refused /);
    expect(await device.command("restart")).toEqual({ version: "1.0.0", state: "confirmed" });
  });
}

test("an update that is cancelled keeps what the device holds, and the next one goes on there", async ({ baseURL }) => {
  const device = await open(baseURL, "--flash-time", "real");
  await begin(device, "packages/demo-2.0.0.zip", "secure-dfu");
  await sent(device, 70_000);
  await device.page.getByRole("button", { name: "Cancel" }).click();
  expect(await conclusion(device)).toContain("Cancelled");
  await device.page.getByRole("button", { name: "Start" }).click();
  await expect(device.page.locator("#update-result")).toBeHidden();
  expect(await conclusion(device)).toContain("2.0.0 runs");
  expect(await history(device)).toMatch(/The device holds [\d,]+ bytes already/);
});

test("an update that is paused sends nothing, and goes on", async ({ baseURL }) => {
  const device = await open(baseURL, "--flash-time", "real");
  await begin(device, "packages/demo-2.0.0.zip", "smp");
  await sent(device, 30_000);
  await device.page.getByRole("button", { name: "Pause" }).click();
  await expect(device.page.locator("#update-stage")).toHaveText("Paused");
  await device.page.waitForTimeout(500);
  const bar = device.page.locator("#update-bar");
  const before = await bar.evaluate((element: HTMLProgressElement) => element.value);
  await device.page.waitForTimeout(1_500);
  expect(await bar.evaluate((element: HTMLProgressElement) => element.value)).toBe(before);
  await device.page.getByRole("button", { name: "Go on" }).click();
  expect(await conclusion(device)).toContain("2.0.0 runs");
});

test("a file that cannot be sent is refused before anything is sent", async ({ baseURL }) => {
  const device = await open(baseURL);
  await begin(device, "keys/known.txt", "smp");
  expect(await conclusion(device)).toBe(
    "cannot use known.txt: the file is not a DFU package, init packet, MCUboot image or slot: sign the program with imgtool first",
  );
});

test("a device that runs the file already is left alone", async ({ baseURL }) => {
  const device = await open(baseURL);
  await begin(device, "images/small-1.0.0.signed.bin", "smp");
  expect(await conclusion(device)).toContain("1.0.0 runs, confirmed");
  expect(await history(device)).toContain("nothing is sent");
});
