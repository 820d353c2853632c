// SPDX-License-Identifier: Apache-2.0
// A device behind Chromium's real Web Bluetooth: a bus of its own, a model of BlueZ, `bledfu serve`.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { join } from "node:path";
import type { CDPSession, Page } from "@playwright/test";
import { BLEDFU, ROOT, launch, settled } from "./browser.js";

/** Why no device can be had here; nothing if it can. */
export function missing(): string | undefined {
  const has = (name: string) => spawnSync("sh", ["-c", `command -v ${name}`]).status === 0;
  return ["dbus-daemon", "python3"].filter((name) => !has(name)).map((name) => `there is no ${name}`)[0];
}

export interface Running {
  version: string;
  state: "confirmed" | "test";
}

/** A device, and a page that can reach it. */
export class Room {
  /** The name of the device that is chosen from the browser's list; without it the first. */
  wanted: string | undefined;

  private constructor(
    private readonly process: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
    readonly page: Page,
    private readonly close: () => Promise<void>,
  ) {}

  static async open(baseURL: string, options: string[] = []): Promise<Room> {
    const process_ = spawn("python3", [join(ROOT, "web/tests/room.py"), "--bledfu", BLEDFU, ...options], { stdio: ["pipe", "pipe", "inherit"] });
    const reader = createInterface({ input: process_.stdout! });
    const lines = reader[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new Error("the device did not start");
    const { bus } = JSON.parse(first.value) as { bus: string };
    const { context, close } = await launch({ DBUS_SYSTEM_BUS_ADDRESS: bus });
    const page = context.pages()[0] ?? (await context.newPage());
    const room = new Room(process_, lines, reader, page, close);
    await room.choosesByItself(await context.newCDPSession(page));
    await page.goto(baseURL);
    await settled(page);
    return room;
  }

  /** `restart`, `off` or `on`. */
  async command(name: "restart" | "off" | "on"): Promise<Running> {
    this.process.stdin!.write(`${name}\n`);
    const line = await this.lines.next();
    if (line.done) throw new Error(`the device is gone at ${name}`);
    return JSON.parse(line.value) as Running;
  }

  async end(): Promise<void> {
    await this.close();
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stdin!.end();
    await gone;
    this.reader.close();
  }

  /** Chooses from every list that the browser shows. */
  private async choosesByItself(session: CDPSession): Promise<void> {
    const send = session.send.bind(session) as unknown as (method: string, args?: object) => Promise<unknown>;
    const on = session.on.bind(session) as unknown as (event: string, then: (value: never) => void) => void;
    // The same list is told again and again, and a second answer ends the browser.
    const answered = new Set<string>();
    on("DeviceAccess.deviceRequestPrompted", ({ id, devices }: { id: string; devices: { id: string; name: string }[] }) => {
      const found = devices.find(({ name }) => this.wanted === undefined || name === this.wanted);
      if (!found || answered.has(id)) return;
      answered.add(id);
      void send("DeviceAccess.selectPrompt", { id, deviceId: found.id });
    });
    await send("DeviceAccess.enable");
  }
}
