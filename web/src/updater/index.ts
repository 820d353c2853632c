// SPDX-License-Identifier: Apache-2.0
// The updater as a module: one function, typed. What it decides and says comes from the Rust crates.
import { ready } from "../core.js";
import { Ask, Client, Update, choose, proof_rules, untold } from "../wasm/bledfu_web.js";
import { Link, LinkError, TooLong, type Offer, type Protocol } from "./bluetooth.js";

export { chooseDevice, obstacle, LinkError, type Filter, type Protocol } from "./bluetooth.js";

/** What is told while an update runs. */
export type Event =
  | { type: "connecting" }
  | { type: "connected"; device: string; protocols: Protocol[] }
  | { type: "now"; version: string }
  | { type: "file"; name: string; size: number; version: string; isPacked: boolean }
  | { type: "already" }
  | { type: "resumed"; at: number }
  | { type: "progress"; bytes: number; total: number; bytesPerSecond: number; secondsLeft: number | undefined }
  | { type: "verified" }
  | { type: "installing" }
  | { type: "lost"; message: string }
  | { type: "again"; message: string }
  | { type: "full-image"; message: string };

/** What runs at the end. */
export interface Runs {
  version: string;
  /** Whether it stays at the next reset, as far as the device tells. */
  confirmed: boolean | null;
  /** What shows it. */
  how: string;
}

/** An update that runs: it can be paused. */
export class Control {
  private gate: Promise<void> | undefined;
  private open: (() => void) | undefined;
  private since = 0;
  private paused = 0;

  get isPaused(): boolean {
    return this.gate !== undefined;
  }

  /** Sends nothing until `resume`. A device closes an idle link after some time; the update then goes on where it was. */
  pause(): void {
    if (this.gate) return;
    this.since = performance.now();
    this.gate = new Promise((resolve) => (this.open = resolve));
  }

  resume(): void {
    if (!this.gate) return;
    this.paused += performance.now() - this.since;
    this.gate = undefined;
    this.open?.();
  }

  /** Time in ms that does not pass while it is paused. */
  now(): number {
    return (this.gate ? this.since : performance.now()) - this.paused;
  }

  async passed(): Promise<void> {
    await this.gate;
  }
}

export interface Options {
  /** The device, from `chooseDevice`. */
  device: BluetoothDevice;
  /** What to send: a file, or the address of a release's `index.json`. */
  source: File | URL;
  /** Asks the user for the bootloader of the device, which is another device for the browser; must end in `chooseDevice` in a click. */
  findBootloader?: () => Promise<BluetoothDevice>;
  /** The protocol; without it the device's, Secure DFU before SMP. */
  protocol?: Protocol;
  /** SMP: `confirm` makes the new version permanent when it runs, `test` leaves it on trial. */
  mode?: "confirm" | "test";
  /** Bytes of one write at first: less, if the link turns out to carry less. */
  payload?: number;
  /** How long a device may be out of reach, in ms: it swaps images meanwhile. */
  patienceMs?: number;
  control?: Control;
  /** Ends the update. The device keeps what it holds; the next attempt goes on there. */
  signal?: AbortSignal;
  onEvent?: (event: Event) => void;
}

/** Payload of MTU 247, which most devices have; and the one that every link carries. */
const PAYLOAD = 244;
const LEAST_PAYLOAD = 20;
const PATIENCE_MS = 120_000;
const RETRIES = 5;
/** How long a device may take to close the link when all is done. */
const CLOSE_MS = 10_000;
/** Longest wait in one step. */
const LONGEST_MS = 60_000;

interface Rules {
  reset_ms: number;
  again_ms: number;
  self_test_ms: number;
  reconnect_ms: number;
  not_asked: string;
  wants_again: string;
}

interface About {
  name: string;
  size: number;
  version: string;
  /** The hashes under which a device lists it. */
  hashes: string[] | null;
  secure_dfu: string | null;
  smp: string | null;
}

/** A file that is ready to be sent. */
interface Ready {
  update: Update;
  about: About;
  isPacked: boolean;
  full: string | undefined;
}

/** A failure of the update itself, in the words of the command line. */
export class UpdateError extends Error {
  constructor(
    message: string,
    readonly isTemporary = false,
  ) {
    super(message);
    this.name = "UpdateError";
  }
}

/** Updates a device, and waits until the new version runs. */
export async function update(options: Options): Promise<Runs> {
  await ready();
  return new Session(options).run();
}

class Session {
  private readonly link: Link;
  private readonly control: Control;
  private readonly patienceMs: number;
  private readonly rules: Rules = JSON.parse(proof_rules());
  private payload: number;
  private sequence = 0x80;
  private offer: Offer = { protocols: [], entersBootloader: false };
  /** Whether the application lists its images; its bootloader may not. */
  private hasList = false;
  /** The protocol that is chosen on the open link. */
  private chosen: Protocol | undefined;
  private stage = "preparing";
  /** The hash of the image that runs, where the device lists it. */
  private running: string | undefined;

  constructor(private readonly options: Options) {
    const { signal } = options;
    const findBootloader =
      options.findBootloader ??
      (() => Promise.reject(new LinkError("the bootloader of the device is another device: choose it", false)));
    this.link = new Link(options.device, () => orAborted(findBootloader(), signal));
    this.control = options.control ?? new Control();
    this.patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.payload = options.payload ?? PAYLOAD;
  }

  async run(): Promise<Runs> {
    const stop = () => this.link.close();
    this.options.signal?.addEventListener("abort", stop);
    try {
      return await this.send();
    } catch (error) {
      this.options.signal?.throwIfAborted();
      throw typeof error === "string" ? new UpdateError(error) : error;
    } finally {
      this.options.signal?.removeEventListener("abort", stop);
      this.link.dispose();
    }
  }

  private tell(event: Event): void {
    this.options.onEvent?.(event);
  }

  private async send(): Promise<Runs> {
    this.tell({ type: "connecting" });
    await this.open();
    this.tell({ type: "connected", device: this.link.name, protocols: this.offer.protocols });
    this.hasList = this.offer.protocols.includes("smp");
    const now = await this.runningNow();
    if (now) this.tell({ type: "now", version: now.version });
    this.running = now?.hash ?? undefined;
    let file = await this.take(this.running);
    if (!file) {
      this.tell({ type: "already" });
      return { version: now?.version ?? "", confirmed: now?.confirmed ?? null, how: "the list of images" };
    }
    let protocol = this.protocolFor(file.about);
    const isThere = now?.hash != null && (file.about.hashes?.includes(now.hash) ?? false);
    if (isThere) {
      this.tell({ type: "already" });
    } else {
      try {
        await this.sendAgainAndAgain(file, protocol);
      } catch (error) {
        if (!(error instanceof UpdateError) || !file.isPacked || file.full === undefined) throw error;
        // It was made for another image than the one that runs.
        this.tell({ type: "full-image", message: error.message });
        file = await this.fetched(new URL(file.full, this.options.source as URL), false, undefined);
        protocol = this.protocolFor(file.about);
        this.link.close();
        this.chosen = undefined;
        await this.sendAgainAndAgain(file, protocol);
      }
    }
    this.tell({ type: "installing" });
    if (!isThere) {
      this.close();
      this.link.expectApplication();
      await this.sleep(this.rules.reset_ms);
    }
    const confirms = protocol === "smp" && this.options.mode !== "test";
    return file.about.hashes !== null && this.hasList
      ? this.provenByList(file.update, confirms)
      : this.provenOtherwise(file);
  }

  // ---- the file

  private async take(running: string | undefined): Promise<Ready | undefined> {
    const { source } = this.options;
    if (!(source instanceof URL)) return this.prepared(source.name, await source.arrayBuffer(), false, undefined);
    const index = await fetched(source);
    const chosen = JSON.parse(choose(await index.text(), running)) as {
      file: string;
      is_packed: boolean;
      full: string;
    } | null;
    return chosen ? this.fetched(new URL(chosen.file, source), chosen.is_packed, chosen.full) : undefined;
  }

  private async fetched(url: URL, isPacked: boolean, full: string | undefined): Promise<Ready> {
    const answer = await fetched(url);
    return this.prepared(url.pathname.split("/").pop() ?? "", await answer.arrayBuffer(), isPacked, full);
  }

  private prepared(name: string, bytes: ArrayBuffer, isPacked: boolean, full: string | undefined): Ready {
    const update = new Update(name, new Uint8Array(bytes));
    const about: About = JSON.parse(update.about());
    this.tell({ type: "file", name, size: about.size, version: about.version, isPacked });
    return { update, about, isPacked, full };
  }

  private protocolFor(about: About): Protocol {
    const refusal = (protocol: Protocol) => (protocol === "smp" ? about.smp : about.secure_dfu);
    const { protocols } = this.offer;
    const wanted = this.options.protocol;
    if (wanted && !protocols.includes(wanted)) throw new UpdateError("the device does not offer the chosen protocol");
    const fitting = wanted ?? protocols.find((protocol) => refusal(protocol) === null) ?? protocols[0]!;
    const refused = refusal(fitting);
    if (refused !== null) throw new UpdateError(refused);
    return fitting;
  }

  // ---- the link

  private now(): number {
    return this.control.now();
  }

  private async sleep(ms: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
    this.options.signal?.throwIfAborted();
  }

  private close(): void {
    this.chosen = undefined;
    this.link.close();
  }

  /** Opens the link, as often as the patience allows. */
  private async open(): Promise<void> {
    const started = performance.now();
    for (;;) {
      this.options.signal?.throwIfAborted();
      try {
        this.offer = await this.link.open();
        this.chosen = undefined;
        return;
      } catch (error) {
        if (!(error instanceof LinkError) || !error.isTemporary) throw error;
        const waited = performance.now() - started;
        if (waited >= this.patienceMs) {
          throw new LinkError(`${error.message} (tried for ${Math.round(waited / 1000)} s)`, false);
        }
      }
      await this.sleep(500);
    }
  }

  /** Opens the link and chooses the protocol; nothing to do if both is done. */
  private async connect(protocol: Protocol): Promise<void> {
    const started = performance.now();
    while (this.chosen !== protocol || !this.link.isOpen) {
      try {
        if (!this.link.isOpen) await this.open();
        await this.choose(protocol);
      } catch (error) {
        if (!(error instanceof LinkError) || !error.isTemporary) throw error;
        if (performance.now() - started >= this.patienceMs) throw error;
        this.close();
        await this.sleep(500);
      }
    }
  }

  private async choose(protocol: Protocol): Promise<void> {
    await this.link.choose(protocol);
    this.chosen = protocol;
  }

  // ---- the client

  private async sendAgainAndAgain(file: Ready, protocol: Protocol): Promise<void> {
    for (let left = RETRIES; ; left -= 1) {
      const client = file.update.client(protocol === "smp", false);
      try {
        await this.drive(client, protocol, file.about.size);
        return;
      } catch (error) {
        this.options.signal?.throwIfAborted();
        const isTemporary = (error instanceof UpdateError || error instanceof LinkError) && error.isTemporary;
        if (!isTemporary || left === 0) {
          throw error instanceof UpdateError ? new UpdateError(file.update.failed(error.message, this.running)) : error;
        }
        this.tell({ type: "again", message: (error as Error).message });
        this.close();
        // What arrives damaged again and again may have been cut to the length that the link carries.
        this.payload = Math.max(LEAST_PAYLOAD, Math.floor(this.payload / 2));
        await this.sleep(this.rules.reconnect_ms);
      } finally {
        client.free();
      }
    }
  }

  /** Runs a client to its end, or until `isEnough`: then the result is false. */
  private async drive(client: Client, protocol: Protocol, total: number, isEnough = () => false): Promise<boolean> {
    const rate = new Rate();
    let closing: number | undefined;
    let written = 0;
    let held = -1;
    this.stage = "preparing";
    for (;;) {
      this.options.signal?.throwIfAborted();
      if (isEnough()) {
        this.close();
        return false;
      }
      const stage = client.stage();
      if (client.held() !== held || stage !== "sending") {
        held = client.held();
        written = 0;
      }
      if (total > 0) this.showProgress(client, stage, Math.min(total, held + written), total, rate);
      await this.control.passed();
      const step = client.poll(this.now());
      try {
        switch (step.kind) {
          case "connect":
            await this.sleep(step.at_ms - this.now());
            await this.connect(protocol);
            closing = undefined;
            rate.restart();
            client.connected(this.now(), this.payload);
            break;
          case "write":
            if (step.to === "packet" && stage === "sending") written += step.bytes.length;
            await this.link.write(step.to as "control-point" | "packet" | "smp", step.bytes);
            break;
          case "wait": {
            let patience = Math.min(LONGEST_MS, step.at_ms - this.now());
            if (client.awaits_close()) {
              closing ??= performance.now();
              patience = Math.min(patience, closing + CLOSE_MS - performance.now());
              if (patience <= 0) {
                this.close();
                client.disconnected(this.now());
                break;
              }
            }
            const bytes = await this.link.receive(patience);
            if (bytes) client.received(this.now(), bytes);
            break;
          }
          case "disconnect":
            this.close();
            client.disconnected(this.now());
            break;
          case "done":
            this.close();
            return true;
          default:
            this.close();
            throw new UpdateError(step.error, step.is_temporary);
        }
      } catch (error) {
        if (!(error instanceof LinkError)) throw error;
        this.options.signal?.throwIfAborted();
        if (!error.isTemporary) throw error;
        if (error instanceof TooLong) this.payload = LEAST_PAYLOAD;
        else if (!client.awaits_close() && total > 0) this.tell({ type: "lost", message: error.message });
        this.close();
        client.disconnected(this.now());
      } finally {
        step.free();
      }
    }
  }

  private showProgress(client: Client, stage: string, bytes: number, total: number, rate: Rate): void {
    const before = this.stage;
    this.stage = stage;
    if (stage === "sending") {
      if (before !== "sending" && client.resumed_at() > 0) this.tell({ type: "resumed", at: client.resumed_at() });
      const seen = rate.at(bytes);
      if (seen !== undefined) {
        const secondsLeft = seen > 0 ? (total - bytes) / seen : undefined;
        this.tell({ type: "progress", bytes, total, bytesPerSecond: seen, secondsLeft });
      }
    } else if (stage === "sent" || stage === "verified") {
      if (before === "sending") this.tell({ type: "progress", bytes: total, total, bytesPerSecond: rate.last, secondsLeft: 0 });
      if (stage === "verified" && before !== "verified") this.tell({ type: "verified" });
    }
  }

  // ---- what runs

  private async runningNow(): Promise<{ version: string; hash: string | null; confirmed: boolean } | null> {
    if (!this.offer.protocols.includes("smp")) {
      const version = await this.link.toldVersion();
      return version === undefined ? null : { version, hash: null, confirmed: true };
    }
    try {
      await this.choose("smp");
      const ask = await this.ask((sequence) => Ask.list(sequence));
      // An old device may refuse the list, and still take an update.
      return typeof ask === "string" ? null : JSON.parse(ask.running());
    } catch (error) {
      if (error instanceof LinkError && !error.isTemporary) throw error;
      return null;
    }
  }

  /** The answer, or the sentence of a refusal. */
  private async ask(make: (sequence: number) => Ask): Promise<Ask | string> {
    const ask = make(this.sequence);
    this.sequence = (this.sequence + 1) & 0xff;
    for (let tries = Ask.tries(); tries > 0; tries -= 1) {
      const request = ask.request();
      for (let at = 0; at < request.length; at += this.payload) {
        await this.link.write("smp", request.subarray(at, at + this.payload));
      }
      const until = performance.now() + Ask.patience_ms();
      for (;;) {
        const bytes = await this.link.receive(Math.max(0, until - performance.now()));
        if (!bytes) break;
        const result = ask.received(bytes);
        if (result === "answered") return ask;
        if (result.startsWith("refused: ")) return result.slice("refused: ".length);
      }
    }
    throw new LinkError(ask.silent(), true);
  }

  private async provenByList(update: Update, confirms: boolean): Promise<Runs> {
    const started = performance.now();
    const mayWait = () => performance.now() - started < this.patienceMs;
    let refusedSince: number | undefined;
    for (;;) {
      try {
        await this.connect("smp");
        const listed = await this.ask((sequence) => Ask.list(sequence));
        if (typeof listed === "string") throw new UpdateError(listed);
        const judged = JSON.parse(listed.judge(update, mayWait())) as Runs | "waits";
        if (judged !== "waits") {
          if (judged.confirmed || !confirms) return judged;
          const confirmed = await this.ask((sequence) => listed.confirm(update, sequence));
          if (typeof confirmed !== "string") return JSON.parse(confirmed.confirmed(update));
          // A version that tests itself confirms itself.
          refusedSince ??= performance.now();
          if (performance.now() - refusedSince > this.rules.self_test_ms) {
            throw new UpdateError(Ask.on_trial(update, confirmed));
          }
        } else {
          this.close();
        }
      } catch (error) {
        this.options.signal?.throwIfAborted();
        // It may still be about to reset.
        if (!(error instanceof LinkError) || !error.isTemporary || !mayWait()) throw error;
        this.close();
      }
      await this.sleep(this.rules.again_ms);
    }
  }

  private async provenOtherwise(file: Ready): Promise<Runs> {
    if (file.about.secure_dfu !== null) throw new UpdateError(this.rules.not_asked);
    this.close();
    await this.open();
    if (this.offer.entersBootloader || !this.offer.protocols.includes("secure-dfu")) {
      return JSON.parse(file.update.by_revision(await this.link.toldVersion()));
    }
    const client = file.update.client(false, true);
    const wantsMore = () => client.stage() === "sending" && client.resumed_at() < file.about.size;
    try {
      if (await this.drive(client, "secure-dfu", 0, wantsMore)) return JSON.parse(file.update.repeated());
    } catch (error) {
      this.options.signal?.throwIfAborted();
      throw error instanceof UpdateError ? new UpdateError(untold(error.message)) : error;
    } finally {
      client.free();
    }
    throw new UpdateError(this.rules.wants_again);
  }
}

/** A promise that a person keeps, or breaks by ending the update. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort);
  });
  signal.throwIfAborted();
  return Promise.race([work, aborted]).finally(() => signal.removeEventListener("abort", onAbort));
}

/** Bytes per second over the last seconds. */
class Rate {
  last = 0;
  private samples: [number, number][] = [];

  restart(): void {
    this.samples = [];
  }

  /** The rate at this position; nothing if it was told a moment ago. */
  at(bytes: number): number | undefined {
    const now = performance.now();
    const newest = this.samples.at(-1);
    if (newest && now - newest[0] < 200) return undefined;
    this.samples.push([now, bytes]);
    while (this.samples.length > 25) this.samples.shift();
    const oldest = this.samples[0]!;
    this.last = now > oldest[0] ? Math.max(0, ((bytes - oldest[1]) * 1000) / (now - oldest[0])) : 0;
    return this.last;
  }
}

async function fetched(url: URL): Promise<Response> {
  const answer = await fetch(url, { cache: "no-cache" }).catch(() => undefined);
  if (!answer?.ok) throw new UpdateError(`cannot read ${url.pathname}: ${answer ? `the server says ${answer.status}` : "there is no connection"}`);
  return answer;
}
