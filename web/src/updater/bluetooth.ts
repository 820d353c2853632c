// SPDX-License-Identifier: Apache-2.0
// A device behind the browser's Web Bluetooth: it opens the link, and moves bytes.

export type Protocol = "secure-dfu" | "smp";
export type Characteristic = "control-point" | "packet" | "smp";

const DFU_SERVICE = 0xfe59;
const SMP_SERVICE = "8d53dc1d-1db7-4cd3-868b-8a527460aa84";
const INFORMATION = "device_information";
const FIRMWARE_REVISION = "firmware_revision_string";
const CONTROL_POINT = "8ec90001-f315-4f60-9fb8-838830daea50";
const PACKET = "8ec90002-f315-4f60-9fb8-838830daea50";
const BUTTONLESS = "8ec90003-f315-4f60-9fb8-838830daea50";
const BUTTONLESS_BONDED = "8ec90004-f315-4f60-9fb8-838830daea50";
const SMP = "da2e7828-fbce-4e01-ae9e-261174997c48";

/** How long the system may take for one connection, one discovery, or one write, in ms. It sets no limit of its own. */
const CONNECT_MS = 20_000;
const DISCOVER_MS = 15_000;
const WRITE_MS = 10_000;
/** How long the browser may take to say whether there is Bluetooth, which needs no device, in ms. */
const ALIVE_MS = 5_000;
/** How long a device may take to answer that it enters its bootloader: one that stores a bond writes flash before. */
const ENTRY_MS = 20_000;

/** The link failed. */
export class LinkError extends Error {
  constructor(
    message: string,
    /** Whether trying again may help. */
    readonly isTemporary: boolean,
  ) {
    super(message);
    this.name = "LinkError";
  }
}

/** A write was refused while the link stayed open: it was too long for this link. */
export class TooLong extends LinkError {
  constructor(readonly length: number) {
    super(`the link does not carry ${length} bytes at once`, true);
  }
}

/** What an open link offers. */
export interface Offer {
  protocols: Protocol[];
  /** Secure DFU is offered by a bootloader that the device must enter first. */
  entersBootloader: boolean;
}

/** Filters of the browser's list of devices. */
export interface Filter {
  /** Only devices whose names begin with this. */
  namePrefix?: string;
}

/** Why this browser cannot update a device, or nothing. */
export async function obstacle(): Promise<string | undefined> {
  if (!window.isSecureContext) {
    return "The page must come from https, or from this computer: browsers offer Bluetooth nowhere else.";
  }
  if (!navigator.bluetooth) {
    return "This browser offers no Bluetooth to pages. Chrome and Edge do, on Windows, macOS, Linux, ChromeOS and Android. Firefox, Safari and all browsers on iOS do not.";
  }
  if (!(await navigator.bluetooth.getAvailability())) {
    return "Bluetooth is off, or this computer has none.";
  }
  return undefined;
}

/** Asks the user for a device. Must be called from a click. */
export async function chooseDevice(filter: Filter = {}): Promise<BluetoothDevice> {
  const named = filter.namePrefix ? { namePrefix: filter.namePrefix } : {};
  return navigator.bluetooth.requestDevice({
    filters: [
      { services: [DFU_SERVICE], ...named },
      { services: [SMP_SERVICE], ...named },
      // Many applications advertise neither.
      ...(filter.namePrefix ? [named as BluetoothLEScanFilter] : []),
    ],
    optionalServices: [DFU_SERVICE, SMP_SERVICE, INFORMATION],
  });
}

/** A way to one device. */
export class Link {
  private characteristics = new Map<string, BluetoothRemoteGATTCharacteristic>();
  private source = CONTROL_POINT;
  private received: { from: string; bytes: Uint8Array }[] = [];
  private wake: (() => void) | undefined;
  private up = false;
  private readonly onLost: () => void;
  /** The device that is looked for: the application, or its bootloader. */
  private device: BluetoothDevice;
  private bootloader: BluetoothDevice | undefined;

  constructor(
    private readonly application: BluetoothDevice,
    /** Asks the user for the bootloader of the device, which is another device for the browser. */
    private readonly findBootloader: () => Promise<BluetoothDevice>,
  ) {
    this.onLost = () => {
      this.up = false;
      this.wake?.();
    };
    this.device = application;
    this.listen();
  }

  get isOpen(): boolean {
    return this.up;
  }

  get name(): string {
    return this.device.name ?? "the device";
  }

  /** Forgets the device; the link is closed. */
  dispose(): void {
    this.close();
    this.device.removeEventListener("gattserverdisconnected", this.onLost);
  }

  private listen(): void {
    this.device.addEventListener("gattserverdisconnected", this.onLost);
  }

  private lookFor(device: BluetoothDevice): void {
    this.dispose();
    this.device = device;
    this.listen();
  }

  /** The update is over: the application is looked for, not its bootloader. */
  expectApplication(): void {
    if (this.device !== this.application) this.lookFor(this.application);
  }

  /**
   * Connects, and finds what the device offers. A device with a bootloader of its own is there in one of two forms, so after a failure
   * the next attempt looks for the other one.
   */
  async open(): Promise<Offer> {
    try {
      return await this.openThis();
    } catch (error) {
      if (this.bootloader && error instanceof LinkError && error.isTemporary) {
        this.lookFor(this.device === this.bootloader ? this.application : this.bootloader);
      }
      throw error;
    }
  }

  private async openThis(): Promise<Offer> {
    this.close();
    const gatt = this.device.gatt;
    if (!gatt) throw new LinkError("the browser gives no access to this device", false);
    try {
      await limited(gatt.connect(), CONNECT_MS);
      this.up = true;
      await limited(this.discover(gatt), DISCOVER_MS);
    } catch (error) {
      this.close();
      if (error instanceof Late && !(await isBrowserAlive())) {
        throw new LinkError(
          "this browser's Bluetooth no longer answers: reload the page, and start again; the device keeps what it holds",
          false,
        );
      }
      throw new LinkError(`${this.name} cannot be reached: ${reason(error)}`, true);
    }
    const hasDfu = this.characteristics.has(CONTROL_POINT) && this.characteristics.has(PACKET);
    const entry = this.entry();
    const protocols: Protocol[] = [];
    if (hasDfu || entry) protocols.push("secure-dfu");
    if (this.characteristics.has(SMP)) protocols.push("smp");
    if (protocols.length === 0) {
      this.close();
      throw new LinkError(`${this.name} offers neither Secure DFU nor SMP`, false);
    }
    return { protocols, entersBootloader: !hasDfu && entry !== undefined };
  }

  /** Chooses a protocol that the device offers. */
  async choose(protocol: Protocol): Promise<void> {
    if (protocol === "secure-dfu" && !this.characteristics.has(CONTROL_POINT)) await this.enterBootloader();
    this.source = protocol === "smp" ? SMP : CONTROL_POINT;
    await this.subscribe(this.source);
  }

  /** Writes one value. */
  async write(to: Characteristic, bytes: Uint8Array): Promise<void> {
    const uuid = { "control-point": CONTROL_POINT, packet: PACKET, smp: SMP }[to];
    await this.put(uuid, bytes, to === "control-point");
  }

  /** The next notification of the chosen protocol; nothing if none arrives in time. */
  async receive(patienceMs: number): Promise<Uint8Array | undefined> {
    return this.next(this.source, patienceMs);
  }

  /** The firmware revision that the device tells. */
  async toldVersion(): Promise<string | undefined> {
    const revision = this.characteristics.get(FIRMWARE_REVISION);
    if (!revision) return undefined;
    try {
      const value = await limited(revision.readValue(), WRITE_MS);
      return new TextDecoder().decode(value).replace(/\0+$/, "");
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.up = false;
    this.received = [];
    this.characteristics.clear();
    if (this.device.gatt?.connected) this.device.gatt.disconnect();
  }

  private entry(): string | undefined {
    return [BUTTONLESS_BONDED, BUTTONLESS].find((uuid) => this.characteristics.has(uuid));
  }

  private async discover(gatt: BluetoothRemoteGATTServer): Promise<void> {
    this.characteristics.clear();
    const wanted: [BluetoothServiceUUID, string[]][] = [
      [DFU_SERVICE, [CONTROL_POINT, PACKET, BUTTONLESS, BUTTONLESS_BONDED]],
      [SMP_SERVICE, [SMP]],
      [INFORMATION, [FIRMWARE_REVISION]],
    ];
    for (const [service, names] of wanted) {
      const found = await absent(gatt.getPrimaryService(service));
      for (const name of found ? names : []) {
        const characteristic = await absent(found!.getCharacteristic(name));
        if (characteristic) this.characteristics.set(name, characteristic);
      }
    }
  }

  private async subscribe(uuid: string): Promise<void> {
    const characteristic = this.characteristics.get(uuid);
    if (!characteristic) throw new LinkError("the device does not offer this protocol", false);
    characteristic.oncharacteristicvaluechanged = () => {
      const value = characteristic.value;
      if (!value) return;
      const bytes = new Uint8Array(value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength));
      this.received.push({ from: uuid, bytes });
      this.wake?.();
    };
    try {
      await limited(characteristic.startNotifications(), WRITE_MS);
    } catch (error) {
      throw new LinkError(`the link was lost: ${reason(error)}`, true);
    }
  }

  private async put(uuid: string, bytes: Uint8Array, withResponse: boolean): Promise<void> {
    const characteristic = this.characteristics.get(uuid);
    if (!characteristic || !this.up) throw new LinkError("the link was lost", true);
    const value = bytes as Uint8Array<ArrayBuffer>;
    const writing = withResponse
      ? characteristic.writeValueWithResponse(value)
      : characteristic.writeValueWithoutResponse(value);
    try {
      // A write on a link that breaks may never settle.
      await limited(writing, WRITE_MS, () => !this.up);
    } catch (error) {
      if (this.up && this.device.gatt?.connected && !withResponse && bytes.length > 20) throw new TooLong(bytes.length);
      throw new LinkError(`the link was lost: ${reason(error)}`, true);
    }
  }

  private async next(from: string, patienceMs: number): Promise<Uint8Array | undefined> {
    const until = performance.now() + patienceMs;
    for (;;) {
      const first = this.received.shift();
      if (first?.from === from) return first.bytes;
      if (first) continue;
      if (!this.up) throw new LinkError("the link was lost", true);
      const left = until - performance.now();
      if (left <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.wake = undefined;
    }
  }

  /** Makes the application start its bootloader, and goes on with that. */
  private async enterBootloader(): Promise<void> {
    const entry = this.entry();
    if (!entry) throw new LinkError("the device does not offer Secure DFU", false);
    await this.subscribe(entry);
    await this.put(entry, Uint8Array.of(0x01), true);
    try {
      const answer = await this.next(entry, ENTRY_MS);
      if (!answer) throw new LinkError("the link was lost: no answer to the request to enter the bootloader", true);
      const [op, request, code] = answer;
      if (op !== 0x20 || request !== 0x01 || code !== 0x01) {
        throw new LinkError(
          code === 0x07
            ? "the device enters its bootloader only for a computer that is paired with it"
            : `the device refuses to enter its bootloader (${[...answer].map((byte) => byte.toString(16).padStart(2, "0")).join(" ")})`,
          false,
        );
      }
    } catch (error) {
      // Some reset before the answer is delivered.
      if (this.up) throw error;
    }
    this.close();
    // The permission for it lasts: a second entry needs no second choice.
    const known = this.bootloader;
    this.bootloader ??= await this.findBootloader();
    this.lookFor(this.bootloader);
    await this.openThis();
    if (!this.characteristics.has(CONTROL_POINT)) {
      if (!known) this.bootloader = undefined;
      this.expectApplication();
      throw new LinkError("the chosen device is no bootloader: it does not offer Secure DFU", true);
    }
  }
}

/** What a promise brings; nothing if the device does not have it. */
async function absent<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof DOMException && ["NotFoundError", "SecurityError"].includes(error.name)) return undefined;
    throw error;
  }
}

/** A limit has passed. */
class Late extends Error {}

/**
 * Whether the browser still answers. When the system takes a characteristic away with a write under way, which can happen when a link is
 * lost, no call of Chromium's Web Bluetooth returns to this page any more.
 */
async function isBrowserAlive(): Promise<boolean> {
  return limited(navigator.bluetooth.getAvailability(), ALIVE_MS).then(
    () => true,
    () => false,
  );
}

/** A promise with a limit, and with a condition that makes it pointless. */
async function limited<T>(work: Promise<T>, ms: number, isOver: () => boolean = () => false): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let watch: ReturnType<typeof setInterval> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(`no result in ${ms / 1000} s`)), ms);
    watch = setInterval(() => {
      if (isOver()) reject(new Error("the device closed it"));
    }, 250);
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    clearInterval(watch);
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
}
