// SPDX-License-Identifier: Apache-2.0
// The section *Update*: the controls and the progress of an update. What happens is in updater/.
import type { Loaded } from "./config.js";
import { byId, onFiles, sentence } from "./dom.js";
import { Control, chooseDevice, obstacle, update, type Event, type Protocol } from "./updater/index.js";

const SIZE = new Intl.NumberFormat("en");

function bytes(count: number): string {
  return `${SIZE.format(count)} bytes`;
}

function left(seconds: number | undefined): string {
  if (seconds === undefined) return "";
  if (seconds < 60) return `, ${Math.ceil(seconds)} s left`;
  return `, ${Math.floor(seconds / 60)} min ${Math.ceil(seconds % 60)} s left`;
}

/** An event in words, for the list of what happened; nothing for those that only move the bar. */
function words(event: Event): string | undefined {
  switch (event.type) {
    case "connecting":
      return "Connecting";
    case "connected":
      return `Connected with ${event.device}, which offers ${event.protocols.map((name) => (name === "smp" ? "SMP" : "Secure DFU")).join(" and ")}`;
    case "now":
      return `The device runs ${event.version}`;
    case "file":
      return `${event.name}: ${bytes(event.size)}, version ${event.version}${event.isPacked ? ", a packed update for what the device runs" : ""}`;
    case "already":
      return "The device runs this very image: nothing is sent";
    case "resumed":
      return `The device holds ${bytes(event.at)} already`;
    case "verified":
      return "The device has checked the image";
    case "installing":
      return "The device installs the new version";
    case "lost":
      return `${event.message}; connecting again`;
    case "again":
      return `${event.message}; going on where the device is`;
    case "full-image":
      return `${event.message}; taking the full image`;
    case "progress":
      return undefined;
  }
}

const STAGES: Partial<Record<Event["type"], string>> = {
  connecting: "Connecting",
  lost: "Connecting again",
  again: "Connecting again",
  resumed: "Sending",
  progress: "Sending",
  verified: "Verified",
  installing: "The device installs the new version and starts it",
};

/** Makes the section work. */
export async function start(config: Loaded): Promise<void> {
  const button = (id: string) => byId<HTMLButtonElement>(id);
  const [chooser, starter, pauser, canceller] = [button("update-choose"), button("update-start"), button("update-pause"), button("update-cancel")];
  const [result, log, bar] = [byId("update-result"), byId("update-log"), byId<HTMLProgressElement>("update-bar")];
  const filter = config.device?.name_prefix ? { namePrefix: config.device.name_prefix } : {};
  let source: File | URL | undefined = config.release ? new URL(config.release, document.baseURI) : undefined;
  let device: BluetoothDevice | undefined;
  let control: Control | undefined;
  let abort: AbortController | undefined;

  if (source instanceof URL) {
    byId("update-release").hidden = false;
    byId("release-name").textContent = source.pathname.split("/").slice(-2).join("/");
    byId("update-file-label").textContent = "Or another file: package (.zip) or signed image (.bin, .hex)";
  }
  if (config.mode) byId<HTMLSelectElement>("update-mode").value = config.mode;

  const why = await obstacle();
  byId("update-obstacle").hidden = why === undefined;
  byId("update-obstacle").textContent = why ?? "";
  chooser.disabled = why !== undefined;

  const refresh = () => {
    const runs = abort !== undefined;
    starter.disabled = runs || !source || !device;
    chooser.disabled = runs || why !== undefined;
    pauser.hidden = canceller.hidden = !runs;
    byId("update-progress").hidden = !runs;
  };
  const conclude = (kind: "good" | "bad" | "open", text: string) => {
    result.className = `notice ${kind}`;
    result.textContent = text;
    result.hidden = false;
  };
  const show = (event: Event) => {
    const text = words(event);
    if (text !== undefined) {
      byId("update-history").hidden = false;
      const item = document.createElement("li");
      item.textContent = text;
      log.append(item);
    }
    const stage = STAGES[event.type];
    if (stage !== undefined) byId("update-stage").textContent = control?.isPaused ? "Paused" : stage;
    if (event.type === "progress") {
      bar.max = event.total;
      bar.value = event.bytes;
      byId("update-rate").textContent =
        `${bytes(event.bytes)} of ${SIZE.format(event.total)}, ${(event.bytesPerSecond / 1000).toFixed(1)} kB/s${left(event.secondsLeft)}`;
    }
    if (event.type === "installing") {
      bar.removeAttribute("value");
      pauser.hidden = true;
      byId("update-rate").textContent = "This takes up to a minute.";
    }
  };

  onFiles("update-drop", "update-file", ([file]) => {
    source = file ?? source;
    byId("update-file-about").textContent = file ? `${file.name}, ${bytes(file.size)}` : "";
    refresh();
  });
  chooser.addEventListener("click", async () => {
    try {
      device = await chooseDevice(filter);
      byId("update-device").textContent = device.name ?? "a device without a name";
    } catch (error) {
      byId("update-device").textContent =
        error instanceof DOMException && error.name === "NotFoundError" ? "No device was chosen." : sentence(error);
    }
    refresh();
  });

  /** A click is needed for the browser's list of devices. */
  const findBootloader = () =>
    new Promise<BluetoothDevice>((resolve) => {
      const entry = byId("update-entry");
      const choose = button("update-bootloader");
      entry.hidden = false;
      byId("update-stage").textContent = "Waiting for your choice";
      choose.focus();
      const onClick = async () => {
        try {
          const found = await chooseDevice();
          entry.hidden = true;
          byId("update-stage").textContent = "Connecting";
          choose.removeEventListener("click", onClick);
          resolve(found);
        } catch {
          // Nothing was chosen: the button stays.
        }
      };
      choose.addEventListener("click", onClick);
    });

  pauser.addEventListener("click", () => {
    if (!control) return;
    if (control.isPaused) control.resume();
    else control.pause();
    pauser.textContent = control.isPaused ? "Go on" : "Pause";
    byId("update-stage").textContent = control.isPaused ? "Paused" : "Sending";
  });
  canceller.addEventListener("click", () => {
    control?.resume();
    abort?.abort();
  });
  window.addEventListener("beforeunload", (event) => {
    if (abort) event.preventDefault();
  });

  starter.addEventListener("click", async () => {
    if (!source || !device) return;
    control = new Control();
    abort = new AbortController();
    result.hidden = true;
    log.replaceChildren();
    bar.value = 0;
    byId("update-rate").textContent = "";
    pauser.textContent = "Pause";
    refresh();
    canceller.focus();
    // The screen stays on while it runs, where the browser allows it: a sleeping phone ends the link.
    const lock = await navigator.wakeLock?.request("screen").catch(() => undefined);
    const protocol = byId<HTMLSelectElement>("update-protocol").value as Protocol | "";
    const mode = byId<HTMLSelectElement>("update-mode").value as "confirm" | "test";
    try {
      const runs = await update({
        device,
        source,
        mode,
        control,
        findBootloader,
        signal: abort.signal,
        onEvent: show,
        ...(protocol ? { protocol } : {}),
      });
      const state = { true: ", confirmed", false: ", on trial: the next reset goes back unless it is confirmed", null: "" }[String(runs.confirmed)];
      conclude("good", `${runs.version} runs${state}, as ${runs.how} shows.`);
    } catch (error) {
      if (abort.signal.aborted) conclude("open", "Cancelled. The device keeps what it holds; the next attempt goes on there.");
      else conclude("bad", sentence(error));
    } finally {
      abort = undefined;
      byId("update-entry").hidden = true;
      void lock?.release();
      refresh();
      result.tabIndex = -1;
      result.focus();
    }
  });
  refresh();
}
