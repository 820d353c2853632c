// SPDX-License-Identifier: Apache-2.0
// The section *Inspect*: files in, the report of `bledfu inspect` as tables.
import type { Loaded } from "./config.js";
import { ready } from "./core.js";
import { byId, make, notice, onFiles, sentence } from "./dom.js";
import { Dropped } from "./wasm/bledfu_web.js";

interface Line {
  kind: "field" | "problem" | "unchecked" | "drawing";
  name?: string;
  value: string;
}

interface Report {
  file: string;
  kind: string;
  verdict: "good" | "unchecked" | "wrong";
  problems: string[];
  not_checked: string[];
  shown: { sections: { title: string; lines: Line[] }[]; verdict: string; text: string };
}

/** Options of the command line, as JSON. */
export type Asked = Record<string, string | number | boolean>;

/** Explains files that belong together. */
export async function inspect(files: File[], asked: Asked = {}, from?: File): Promise<Report> {
  await ready();
  const dropped = new Dropped();
  try {
    if (from) dropped.add("--from", new Uint8Array(await from.arrayBuffer()));
    for (const file of files) dropped.add(file.name, new Uint8Array(await file.arrayBuffer()));
    return JSON.parse(dropped.inspect(JSON.stringify(asked))) as Report;
  } finally {
    dropped.free();
  }
}

const TEXTS = new Set(["sd_policy", "algorithm"]);

async function asked(config: Loaded): Promise<Asked> {
  const values: Asked = {};
  for (const input of byId("inspect-options").querySelectorAll<HTMLInputElement | HTMLSelectElement>("[name]")) {
    if (input instanceof HTMLInputElement && input.type === "checkbox") values[input.name] = input.checked;
    else if (input.value !== "") values[input.name] = TEXTS.has(input.name) ? input.value : number(input.value);
  }
  const key = async (id: string, configured: string | undefined) =>
    (await byId<HTMLInputElement>(id).files?.[0]?.text()) ?? configured;
  const publicKey = await key("inspect-public-key", config.packageKey);
  const imageKey = await key("inspect-image-key", config.imageKey);
  return { ...values, ...(publicKey ? { public_key: publicKey } : {}), ...(imageKey ? { image_key: imageKey } : {}) };
}

function number(text: string): number {
  const value = Number(text.trim());
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new Error(`${text} is not a number from 0 to 0xFFFFFFFF`);
  }
  return value;
}

const WORDS = { good: ["good", "Good"], unchecked: ["open", "Not all checked"], wrong: ["bad", "Wrong"] } as const;

/** The report as elements. */
export function draw(report: Report): HTMLElement[] {
  const [kind, word] = WORDS[report.verdict];
  const verdict = notice(kind, word, report.shown.verdict.replace(/^(good|wrong): /, ""));
  const sections = report.shown.sections.map((section) => {
    const card = make("div", { class: "card" }, make("h2", {}, section.title));
    const drawing = section.lines.filter((line) => line.kind === "drawing").map((line) => line.value);
    if (drawing.length) card.append(make("pre", { tabindex: "0", "aria-label": "Map of the flash" }, drawing.join("\n")));
    const rows = section.lines.filter((line) => line.kind !== "drawing").map(row);
    if (rows.length) card.append(make("table", {}, make("tbody", {}, ...rows)));
    return card;
  });
  return [verdict, ...sections];
}

function row(line: Line): HTMLTableRowElement {
  const name = { problem: "WRONG", unchecked: "NOT CHECKED", field: line.name ?? "", drawing: "" }[line.kind];
  return make("tr", { class: line.kind }, make("th", { scope: "row" }, name), make("td", {}, line.value));
}

/** Makes the section work. */
export function start(config: Loaded): void {
  const result = byId("inspect-result");
  let last: File[] = [];
  const run = async () => {
    if (last.length === 0) return;
    try {
      const from = byId<HTMLInputElement>("inspect-from").files?.[0];
      result.replaceChildren(...draw(await inspect(last, await asked(config), from)));
    } catch (error) {
      result.replaceChildren(notice("bad", "Failed", sentence(error)));
    }
  };
  onFiles("inspect-drop", "inspect-file", (files) => {
    last = files;
    void run();
  });
  byId("inspect-options").addEventListener("change", () => void run());
}
