// SPDX-License-Identifier: Apache-2.0
// The page: one section at a time, chosen by the address.
import { load } from "./config.js";
import { byId } from "./dom.js";
import * as explain from "./explain.js";
import * as inspect from "./inspect.js";
import * as updating from "./update.js";

const SECTIONS = ["update", "inspect", "explain"];

function show(): void {
  const wanted = SECTIONS.find((name) => `#${name}` === location.hash) ?? "update";
  for (const name of SECTIONS) {
    byId(name).hidden = name !== wanted;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === wanted) link?.setAttribute("aria-current", "page");
    else link?.removeAttribute("aria-current");
  }
}

// A file that misses its place must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
window.addEventListener("hashchange", show);
show();
const config = await load();
inspect.start(config);
explain.start();
await updating.start(config);
// For scripts, and for the console of a curious reader.
Object.assign(window, { bledfu: { inspect: inspect.inspect, explain: explain.explain } });
document.documentElement.dataset["ready"] = "yes";
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  await navigator.serviceWorker.register("./sw.js").catch(() => console.warn("this page will not work offline"));
}
