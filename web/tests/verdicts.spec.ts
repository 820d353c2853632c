// SPDX-License-Identifier: Apache-2.0
// Page and command line say the same about every file and every log of tests/vectors.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { VECTORS, bledfu, expect, test } from "./browser.js";

const FOLDERS = ["case", "images", "init", "packages", "logs"];
const KEYS = ["keys/package.pub.pem", "keys/image.pub.pem"].map((name) => join(VECTORS, name)) as [string, string];

function files(folder: string, ends: string[]): string[] {
  const path = join(VECTORS, folder);
  return readdirSync(path)
    .filter((name) => ends.some((end) => name.endsWith(end)))
    .sort()
    .map((name) => join(path, name));
}

/** What only the page's report has. */
function withoutShown(json: { shown?: unknown }): unknown {
  const { shown: _, ...rest } = json;
  return rest;
}

test("every file of the vectors has the same report in the page and on the command line", async ({ page }) => {
  test.slow();
  const all = FOLDERS.flatMap((folder) => files(folder, [".zip", ".bin", ".dat", ".log", ".json"]));
  expect(all.length).toBeGreaterThan(60);
  await page.goto("./#inspect");
  await page.getByText("Keys and what is known about the device").click();
  for (const keys of [false, true]) {
    if (keys) {
      await page.locator("#inspect-public-key").setInputFiles(KEYS[0]);
      await page.locator("#inspect-image-key").setInputFiles(KEYS[1]);
    }
    for (const file of all) {
      const options = keys ? ["--public-key", KEYS[0], "--image-key", KEYS[1]] : [];
      const wanted = JSON.parse(bledfu("inspect", file, "--json", ...options).stdout);
      const report = await page.evaluate(
        async ([name, bytes, publicKey, imageKey]) => {
          const raw = Uint8Array.from(atob(bytes!), (letter) => letter.charCodeAt(0));
          const asked = publicKey ? { public_key: publicKey, image_key: imageKey } : {};
          const inspect = (window as never as { bledfu: { inspect: Function } }).bledfu.inspect;
          return await inspect([new File([raw], name!)], asked);
        },
        [file.split("/").pop()!, readFileSync(file).toString("base64"), ...(keys ? KEYS.map((key) => readFileSync(key, "utf8")) : ["", ""])],
      );
      expect(withoutShown(report), file).toEqual(wanted);
    }
  }
});

test("what is drawn is the report, with its verdict", async ({ page }) => {
  await page.goto("./#inspect");
  const file = join(VECTORS, "packages/small-2.0.0.zip");
  await page.locator("#inspect-file").setInputFiles(file);
  await expect(page.locator("#inspect-result .notice")).toContainText("not checked: the signature of the init packet: no --public-key");
  await page.getByText("Keys and what is known about the device").click();
  await page.locator("#inspect-public-key").setInputFiles(KEYS[0]);
  await page.locator("#inspect-image-key").setInputFiles(KEYS[1]);
  await expect(page.locator("#inspect-result .notice")).toContainText("everything was checked");
  const wanted = JSON.parse(bledfu("inspect", file, "--json", "--public-key", KEYS[0], "--image-key", KEYS[1]).stdout);
  const fields = wanted.sections.flatMap((section: { fields: { value: string }[] }) => section.fields.map((field) => field.value));
  expect(await page.locator("#inspect-result tr.field td").allInnerTexts()).toEqual(fields);
});

test("every log of the vectors has the same verdict in the page and on the command line", async ({ page }) => {
  const logs = [...files("logs", [".log"]), ...files("case", [".log"])];
  expect(logs.length).toBeGreaterThanOrEqual(16);
  await page.goto("./#explain");
  for (const file of logs) {
    const said = bledfu("replay", file, "--json");
    const wanted = said.stdout.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
    if (wanted.length === 0) expect(said.stderr).toContain("no line of");
    await page.locator("#explain-text").fill(readFileSync(file, "utf8"));
    await page.getByRole("button", { name: "Explain" }).click();
    const verdicts = wanted.map((log) => (log.verdict.line ? `${log.verdict.id} @${log.verdict.line}` : null)).filter(Boolean);
    const shown = page.locator("#explain-result [data-verdict]");
    await expect(shown).toHaveCount(verdicts.length);
    await expect(page.locator("#explain-result > *")).toHaveCount(Math.max(1, wanted.length));
    expect(await shown.evaluateAll((all) => all.map((one) => (one as HTMLElement).dataset["verdict"]))).toEqual(verdicts);
    const reports = await page.evaluate(
      async (text) => (window as never as { bledfu: { explain: Function } }).bledfu.explain(text),
      readFileSync(file, "utf8"),
    );
    expect(reports.map(withoutShown), file).toEqual(wanted);
    const text = bledfu("replay", file).stdout.trim();
    expect(reports.map((report: { shown: { text: string } }) => report.shown.text.trim()).join("\n\n"), file).toBe(text);
  }
});

test("a log that nobody knows is said to be one", async ({ page }) => {
  await page.goto("./#explain");
  await page.locator("#explain-text").fill("Shall I compare thee to a summer's day?");
  await page.getByRole("button", { name: "Explain" }).click();
  await expect(page.locator("#explain-result")).toContainText("No line is one that bledfu knows");
});

test("a whole device of `bledfu serve` is explained from its two flashes", async ({ page }) => {
  await page.goto("./#inspect");
  const dump = Buffer.alloc(1 << 20, 0xff);
  readFileSync(join(VECTORS, "images/small-1.0.0.signed.bin")).copy(dump, 0xd000);
  await page.locator("#inspect-file").setInputFiles([
    { name: "internal.bin", mimeType: "application/octet-stream", buffer: dump },
    { name: "external.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(8 << 20, 0xff) },
  ]);
  await expect(page.locator("#inspect-result")).toContainText("next boot");
  await expect(page.locator("#inspect-result pre").first()).toContainText("primary");
});
