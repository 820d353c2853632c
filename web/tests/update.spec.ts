// SPDX-License-Identifier: Apache-2.0
// Whole updates of a device of `bledfu serve`, through Chromium's real Web Bluetooth.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { VECTORS, expect, test } from "./browser.js";
import { look } from "./looks.js";
import { Product, release } from "./product.js";
import { Room, missing } from "./room.js";

test.skip(missing() !== undefined, missing());

let room: Room | undefined;
let product: Product | undefined;

test.afterEach(async () => {
  await room?.end();
  product?.end();
  room = product = undefined;
});

async function open(baseURL: string | undefined, ...options: string[]): Promise<Room> {
  room = await Room.open(baseURL!, options);
  return room;
}

/** The page of a product with a release from these images, and a device in front of it. */
async function openProduct(to: string, from: string[], ...options: string[]): Promise<Room> {
  product = await Product.host({ title: "Lamp update", release: "release/index.json" });
  release(join(product.folder, "release"), to, from);
  return open(product.address, ...options);
}

async function choose({ page }: Room): Promise<void> {
  await page.getByRole("button", { name: "Choose device…" }).click();
  await expect(page.locator("#update-device")).toHaveText("lamp", { timeout: 20_000 });
}

async function start({ page }: Room): Promise<void> {
  // An update of which nothing has to be sent is over at once: only the last result is taken away for sure.
  await page.locator("#update-result").evaluate((result) => result.replaceChildren());
  await page.getByRole("button", { name: "Start" }).click();
}

/** Chooses file and device, and starts. */
async function begin(device: Room, file: string, protocol: "secure-dfu" | "smp"): Promise<void> {
  const { page } = device;
  await page.locator("#update-file").setInputFiles(file.startsWith("/") ? file : join(VECTORS, file));
  await choose(device);
  await page.getByText("Options", { exact: true }).click();
  await page.getByLabel("Protocol").selectOption(protocol);
  await page.getByRole("button", { name: "Start" }).click();
}

/** The result. With flash in real time an install alone takes half a minute. */
async function conclusion(device: Room, timeout = 150_000): Promise<string> {
  const { page } = device;
  try {
    // The text of an earlier run may still be there, hidden.
    await expect(page.locator("#update-result")).toBeVisible({ timeout });
    await expect(page.locator("#update-result")).toHaveText(/\S/, { timeout });
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

for (const protocol of ["secure-dfu", "smp"] as const) {
  test(`${protocol}: a packed update for another version is refused by name, and the full image goes in from the same page`, async ({ baseURL }) => {
    product = await Product.host({});
    const folder = join(product.folder, "release");
    release(folder, "small-2.0.0", ["small-3.0.0", "small-1.0.0"]);
    const device = await open(baseURL);
    await begin(device, join(folder, "small-2.0.0-from-3.0.0.zip"), protocol);
    expect(await conclusion(device)).toContain("the packed update is for another image than the one that runs");
    expect(await device.command("restart")).toEqual({ version: "1.0.0", state: "confirmed" });
    await device.page.locator("#update-file").setInputFiles(join(VECTORS, "packages/small-2.0.0.zip"));
    await start(device);
    expect(await conclusion(device)).toContain("2.0.0 runs");
    expect(await device.command("restart")).toEqual({ version: "2.0.0", state: "confirmed" });
  });
}

test("a release: the page takes the packed update that fits what the device runs", async () => {
  const device = await openProduct("small-2.0.0", ["small-1.0.0", "small-3.0.0"]);
  await expect(device.page.locator("#product")).toHaveText("Lamp update");
  await choose(device);
  await start(device);
  expect(await conclusion(device)).toContain("2.0.0 runs, confirmed");
  expect(await history(device)).toMatch(/small-2\.0\.0-from-1\.0\.0\.zip: [\d,]+ bytes, version 2\.0\.0, a packed update/);
  expect(await device.command("restart")).toEqual({ version: "2.0.0", state: "confirmed" });
  await start(device);
  expect(await conclusion(device)).toContain("2.0.0 runs, confirmed");
  expect(await history(device)).toContain("nothing is sent");
});

test("a release without a packed update for the device: it gets the full image", async () => {
  const device = await openProduct("small-2.0.0", ["small-3.0.0"]);
  await choose(device);
  await start(device);
  expect(await conclusion(device)).toContain("2.0.0 runs, confirmed");
  expect(await history(device)).toContain("small-2.0.0-full.zip");
});

test("a release whose packed update was made for another image: the device refuses it, and the full image follows by itself", async () => {
  const device = await openProduct("small-2.0.0", ["small-1.0.0", "small-3.0.0"]);
  const index = join(product!.folder, "release/index.json");
  const wrong = readFileSync(index, "utf8").replace("from-1.0.0", "from-x").replace("from-3.0.0", "from-1.0.0").replace("from-x", "from-3.0.0");
  writeFileSync(index, wrong);
  await choose(device);
  await start(device);
  expect(await conclusion(device)).toContain("2.0.0 runs, confirmed");
  const told = await history(device);
  expect(told).toContain("from-3.0.0.zip");
  expect(told).toMatch(/another image than the one that runs.*; taking the full image/);
  expect(await device.command("restart")).toEqual({ version: "2.0.0", state: "confirmed" });
});

test("an application with buttonless entry: the bootloader is chosen once, and the application shows the new version", async ({ baseURL }) => {
  const device = await open(baseURL, "--buttonless");
  await begin(device, "packages/medium-2.3.4.zip", "secure-dfu");
  const entry = device.page.getByRole("button", { name: "Choose the bootloader…" });
  await expect(entry).toBeFocused({ timeout: 20_000 });
  device.wanted = "lamp DFU";
  await entry.click();
  expect(await conclusion(device)).toContain("2.3.4+5 runs, confirmed, as the list of images shows");
  await expect(entry).toBeHidden();
  expect(await device.command("restart")).toEqual({ version: "2.3.4+5", state: "confirmed" });
});

test("an application with buttonless entry whose power is cut in the bootloader: it is entered again without a question", async ({ baseURL }) => {
  const device = await open(baseURL, "--buttonless", "--flash-time", "real");
  await begin(device, "packages/demo-2.0.0.zip", "secure-dfu");
  device.wanted = "lamp DFU";
  await device.page.getByRole("button", { name: "Choose the bootloader…" }).click({ timeout: 20_000 });
  await sent(device, 50_000);
  await device.command("restart");
  expect(await conclusion(device)).toContain("2.0.0 runs, confirmed, as the list of images shows");
  expect(await history(device)).toMatch(/The device holds [\d,]+ bytes already/);
});

test("an update that waits for the choice of a bootloader can be cancelled", async ({ baseURL }) => {
  const device = await open(baseURL, "--buttonless");
  await begin(device, "packages/medium-2.3.4.zip", "secure-dfu");
  await expect(device.page.getByRole("button", { name: "Choose the bootloader…" })).toBeVisible({ timeout: 20_000 });
  await device.page.getByRole("button", { name: "Cancel" }).click();
  expect(await conclusion(device)).toContain("Cancelled");
  await expect(device.page.locator("#update-entry")).toBeHidden();
});

test("a browser whose Bluetooth no longer answers is told so, instead of being asked for two minutes", async ({ page }) => {
  const told = await page.evaluate(async () => {
    const never = new Promise<never>(() => undefined);
    Object.defineProperty(navigator, "bluetooth", { value: { getAvailability: () => never } });
    const { update } = (await import(new URL("./updater.js", document.baseURI).href)) as { update: (options: object) => Promise<unknown> };
    const device = Object.assign(new EventTarget(), { name: "lamp", gatt: { connected: false, connect: () => never } });
    return update({ device, source: new File([], "x.zip") }).then(String, String);
  });
  expect(told).toContain("this browser's Bluetooth no longer answers: reload the page");
});

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

test("every state of an update fits both widths and themes, and axe finds nothing", async ({ baseURL }) => {
  test.slow();
  const device = await open(baseURL, "--buttonless", "--flash-time", "real");
  const { page } = device;
  await look(page, "update-idle");
  await page.locator("#update-file").setInputFiles(join(VECTORS, "packages/wrong-hardware.zip"));
  await choose(device);
  await page.getByText("Options", { exact: true }).click();
  await page.getByLabel("Protocol").selectOption("secure-dfu");
  await look(page, "update-connected");
  await start(device);
  await expect(page.locator("#update-entry")).toBeVisible({ timeout: 20_000 });
  await look(page, "update-bootloader");
  device.wanted = "lamp DFU";
  await page.getByRole("button", { name: "Choose the bootloader…" }).click();
  expect(await conclusion(device)).toMatch(/^the device refused /);
  await page.getByText("What happened", { exact: true }).click();
  await look(page, "update-refused");
  await page.locator("#update-file").setInputFiles(join(VECTORS, "packages/demo-2.0.0.zip"));
  await page.getByLabel("Protocol").selectOption("smp");
  await start(device);
  await sent(device, 30_000);
  const pause = async () => {
    await page.getByRole("button", { name: "Pause" }).click();
    await expect(page.locator("#update-stage")).toHaveText("Paused");
  };
  const goOn = async () => {
    await page.getByRole("button", { name: "Go on" }).click();
    await expect(page.locator("#update-stage")).toHaveText("Sending");
  };
  await pause();
  await look(page, "update-paused");
  await look(page, "update-running", { begin: goOn, end: pause });
  await goOn();
  await expect(page.locator("#update-stage")).toContainText("installs", { timeout: 120_000 });
  await look(page, "update-installing");
  expect(await conclusion(device)).toContain("2.0.0 runs");
  await look(page, "update-done");
});
