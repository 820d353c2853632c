// SPDX-License-Identifier: Apache-2.0
// The section *Explain*: a log in, the report of `bledfu replay` with the exchange as a diagram.
import { ready } from "./core.js";
import { byId, make, notice, onFiles, sentence } from "./dom.js";
import { explain as explainBytes } from "./wasm/bledfu_web.js";

interface Arrow {
  line: number;
  at_ms: number | null;
  from: "client" | "device" | "note";
  what: string;
  is_wrong: boolean;
}

interface Verdict {
  id: string;
  line?: number;
  sure?: string;
  why?: string;
  title?: string | null;
  causes?: string[] | null;
  checks?: string[] | null;
  bledfu?: string | null;
}

interface Log {
  format: string | null;
  first_line: number;
  last_line: number;
  lines: number;
  understood: number;
  verdict: Verdict;
  shown: { text: string; sequence: Arrow[] };
}

/** A pause that is shown as one, in ms. */
const GAP_MS = 1_000;
/** Arrows at the start and at the end of a long exchange; the rest is folded. */
const SHOWN = 60;

/** Explains the logs in a text or in the bytes of a file. */
export async function explain(log: string | Uint8Array): Promise<Log[]> {
  await ready();
  return JSON.parse(explainBytes(typeof log === "string" ? new TextEncoder().encode(log) : log)) as Log[];
}

/** The report as elements. */
export function draw(logs: Log[]): HTMLElement[] {
  if (logs.length === 0) {
    return [notice("open", "Unknown", "No line is one that bledfu knows. Paste the log as it was saved, not a picture or a summary.")];
  }
  return logs.map((log, index) => {
    const title = logs.length > 1 ? `Log ${index + 1}: ` : "";
    const card = make(
      "div",
      { class: "card" },
      make("h2", {}, `${title}${log.format ?? "unknown"}, lines ${log.first_line} to ${log.last_line}`),
      verdict(log.verdict),
      make("p", { class: "about" }, `${log.understood} of ${log.lines} lines understood`),
    );
    const { causes, checks, bledfu } = log.verdict;
    if (causes?.length) card.append(make("h3", {}, "Likely causes, the likeliest first"), list("ol", causes));
    if (checks?.length) card.append(make("h3", {}, "Check or change"), list("ul", checks));
    if (bledfu) card.append(make("h3", {}, "bledfu in the same place"), make("p", {}, bledfu));
    if (log.shown.sequence.length) card.append(make("h3", {}, "The exchange"), ...sequence(log.shown.sequence));
    const text = make("pre", { tabindex: "0", "aria-label": "The whole report" }, log.shown.text);
    card.append(make("details", {}, make("summary", {}, "The whole report as text"), text));
    return card;
  });
}

function verdict({ id, line, sure, title, why }: Verdict): HTMLElement {
  if (id === "none") return notice("good", "No fault", "The log shows no fault; the update went to its end.");
  if (id === "unknown") {
    return notice("open", "Unknown", "Nothing in the log is a fault that the catalogue knows. More lines before and after, or the log of the other side, may tell.");
  }
  const element = notice("bad", `${id} @${line}`, `(${sure}) ${title ?? ""}. ${why ?? ""}.`);
  element.dataset["verdict"] = `${id} @${line}`;
  return element;
}

function list(kind: "ol" | "ul", items: string[]): HTMLElement {
  return make(kind, {}, ...items.map((item) => make("li", {}, item)));
}

interface Row extends Arrow {
  count: number;
}

function sequence(arrows: Arrow[]): HTMLElement[] {
  const rows: Row[] = [];
  for (const arrow of arrows) {
    const last = rows.at(-1);
    if (last && last.from === arrow.from && last.what === arrow.what && !arrow.is_wrong) last.count += 1;
    else rows.push({ ...arrow, count: 1 });
  }
  const zero = arrows.find((arrow) => arrow.at_ms !== null)?.at_ms ?? 0;
  let before: number | null = null;
  const items = rows.map((row) => {
    const pause = row.at_ms !== null && before !== null ? row.at_ms - before : 0;
    before = row.at_ms ?? before;
    return element(row, zero, pause);
  });
  const ends = make("div", { class: "ends", "aria-hidden": "true" }, make("span", {}, "after"), make("span", {}, "client"), make("span", {}, "device"));
  const all = make("ol", { class: "sequence", "aria-label": "The exchange, in the order of the log" });
  const hidden = items.slice(SHOWN, Math.max(SHOWN, items.length - SHOWN));
  if (hidden.length === 0) {
    all.append(...items.flat());
    return [ends, all];
  }
  const more = make("button", { type: "button" }, `Show ${hidden.length} more`);
  const place = make("li", {}, make("span", {}), more);
  more.addEventListener("click", () => place.replaceWith(...hidden.flat()));
  all.append(...items.slice(0, SHOWN).flat(), place, ...items.slice(items.length - SHOWN).flat());
  return [ends, all];
}

const SAID = { client: "client to device: ", device: "device to client: ", note: "" };

function element(row: Row, zero: number, pause: number): HTMLElement[] {
  const at = row.at_ms === null ? `line ${row.line}` : `${((row.at_ms - zero) / 1000).toFixed(3)} s`;
  const what = row.count > 1 ? `${row.what} × ${row.count}` : row.what;
  const spoken = make("span", { class: "away" }, SAID[row.from]);
  const item = make(
    "li",
    { class: `${row.from}${row.is_wrong ? " wrong" : ""}`, title: `line ${row.line}` },
    make("span", { class: "at" }, at),
    make("span", { class: "lane" }, make("span", { class: "arrow" }, spoken, row.is_wrong ? `⚠ ${what}` : what)),
  );
  if (pause < GAP_MS) return [item];
  const gap = make("li", { class: "gap" }, make("span", { class: "at" }), make("span", { class: "lane" }, `${(pause / 1000).toFixed(1)} s`));
  return [gap, item];
}

/** Makes the section work. */
export function start(): void {
  const result = byId("explain-result");
  const text = byId<HTMLTextAreaElement>("explain-text");
  const run = async (log: string | Uint8Array) => {
    try {
      result.replaceChildren(...draw(await explain(log)));
    } catch (error) {
      result.replaceChildren(notice("bad", "Failed", sentence(error)));
    }
  };
  onFiles("explain-drop", "explain-file", async ([file]) => {
    if (file) await run(new Uint8Array(await file.arrayBuffer()));
  });
  byId("explain-run").addEventListener("click", () => void run(text.value));
}
