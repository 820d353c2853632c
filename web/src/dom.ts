// SPDX-License-Identifier: Apache-2.0
// Small helpers to build elements. Text is always text: nothing is parsed as HTML.

/** The element with this id. */
export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

/** An element with children, which are elements or text. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A verdict: a word in a colour, and a sentence. */
export function notice(kind: "good" | "bad" | "open", word: string, text: string): HTMLElement {
  return make("p", { class: `notice ${kind}` }, make("strong", {}, word), text);
}

/** Files that are chosen in an input or dropped on its label. */
export function onFiles(dropId: string, inputId: string, take: (files: File[]) => void): void {
  const drop = byId(dropId);
  const input = byId<HTMLInputElement>(inputId);
  input.addEventListener("change", () => {
    if (input.files?.length) take([...input.files]);
  });
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) take(files);
  });
}

/** A sentence for whatever was thrown. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
