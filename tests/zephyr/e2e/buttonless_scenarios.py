# SPDX-License-Identifier: Apache-2.0
"""Buttonless entry, as Nordic's libraries for Android and iOS do it: ask the application for its update mode, find it, update it.

The application is buttonless/: it has a service of its own, a lamp, and grants no update while the lamp is on.
"""

import asyncio
import time

from bumble import core, gatt, hci
from bumble.device import ConnectionParametersPreferences, Peer
from bumble.keys import MemoryKeyStore
from bumble.pairing import PairingConfig
from central import CCCD, SERVICE, BluetoothLink
from gatt import Wrong, load
from harness import package
from scenarios import CCCD_IMPROPERLY_CONFIGURED, CLOSED_BY_PEER, VERSIONS, Skipped, expect, scenario
from send_scenarios import computer
from wire_trace import DATA, OBJECT_SIZE, Trace

ENTRY = {"open": core.UUID("8EC90003-F315-4F60-9FB8-838830DAEA50"), "bonds": core.UUID("8EC90004-F315-4F60-9FB8-838830DAEA50")}
LAMP_SERVICE, LAMP = core.UUID("7D060000-5AD1-4F2E-9C39-1B2D5C0D05E5"), core.UUID("7D060001-5AD1-4F2E-9C39-1B2D5C0D05E5")
ENTER, ENTERS = b"\x01", b"\x20\x01\x01"
INSUFFICIENT_AUTHENTICATION, INSUFFICIENT_ENCRYPTION = 0x05, 0x0F
PROPERTIES = gatt.Characteristic.Properties
# An iPhone sets a name with random digits.
NAME = b"Dfu12345"
# buttonless.conf
TIMEOUT_S, GONE_S = 16, 8
# How long Android waits for Service Changed.
SERVICE_CHANGED_S = 4


class Application(BluetoothLink):
    """A link to the application: the entry characteristic, and the product's own service."""

    def __init__(self, central, trace=None):
        super().__init__(central, trace or Trace())
        self.entry = self.lamp = None
        self.held = None                        # confirmations that the phone keeps back

    async def open(self, address):
        preferences = ConnectionParametersPreferences(connection_interval_min=15, connection_interval_max=15)
        self.connection = await self.central.device.connect(
            address, connection_parameters_preferences={hci.Phy.LE_1M: preferences}, timeout=10)
        self.connection.on("disconnection", self._on_disconnection)
        await self.discover()

    async def discover(self):
        peer = Peer(self.connection)
        self.services = await peer.discover_services()
        for service in self.services:
            characteristics = await service.discover_characteristics()
            if service.uuid == SERVICE:
                self.service = service
                if len(characteristics) != 1 or characteristics[0].uuid not in ENTRY.values():
                    raise Wrong("FE59 of the application has %s" % ", ".join(str(one.uuid) for one in characteristics))
                self.entry = characteristics[0]
                await peer.discover_descriptors(self.entry)
            self.lamp = next((one for one in characteristics if one.uuid == LAMP), self.lamp)
        if not self.entry or not self.lamp:
            raise Wrong("a service of the application is missing")

    def subscribe_now(self):
        self.central.run(self.entry.subscribe(self._on_notification))

    def ask(self, *parts):
        """One request; the answer that is indicated."""
        error = self.write(self.entry, b"".join(parts), True)
        expect(error is None, "%s is refused by ATT error %s" % (b"".join(parts).hex(" "), error))
        return self.notification()

    def hold_confirmations(self):
        client, self.held = self.connection.gatt_client, []
        client.send_confirmation = self.held.append

    def confirm_now(self):
        client = self.connection.gatt_client
        for confirmation in self.held:
            self.central.loop.call_soon_threadsafe(client.send_gatt_pdu, bytes(confirmation))


def application(context):
    """The phone finds the application and connects."""
    address = context.central.find()
    link = Application(context.central)
    context.central.run(link.open(address))
    return link, address


def above(address):
    """The address that Android looks for: the lowest byte one higher."""
    low = bytes(address)[0]
    return bytes([(low + 1) & 0xFF]) + bytes(address)[1:]


def enter(context, name=None):
    """Into the update mode, as iOS does with a name and Android without one; the address of the application."""
    link, address = application(context)
    link.subscribe_now()
    if name:
        answer = link.ask(b"\x02", bytes([len(name)]), name)
        expect(answer == b"\x20\x02\x01", "the name is answered " + answer.hex(" "))
    context.device.starts_over = True
    answer = link.ask(ENTER)
    expect(answer == ENTERS, "the request is answered " + answer.hex(" "))
    seconds = link.wait_for_disconnection_after(answer)
    expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % link.reason)
    restarted(context)
    return address, seconds


def restarted(context):
    """The device has started over by itself. From here on the boot stage comes first."""
    context.device._came()
    context.device.starts_over = False


def find_update_mode(context, address):
    """Android: scan for the same address or the one above; it must be the one above."""
    found = context.central.find()
    expect(bytes(found) == above(address), "the update mode has the address %s, the application %s" % (found, address))


def expect_application_again(context, at_least, at_most, since):
    """It comes back by itself, within that many seconds from `since`."""
    restarted(context)
    took = time.monotonic() - since
    expect(at_least <= took <= at_most, "the application came back after %.1f s, not %g to %g" % (took, at_least, at_most))
    link, _ = application(context)
    link.close()
    return took


def of(context, kind):
    if context.tools.buttonless != kind:
        raise Skipped("built with another CONFIG_BLEDFU_BUTTONLESS")


# ---- without bonds

@scenario()
def buttonless_application(context):
    """FE59 has the entry characteristic alone, with its properties; the product's services are there."""
    context.device.start()
    link, _ = application(context)
    expect(link.entry.uuid == ENTRY[context.tools.buttonless], "the characteristic is %s" % link.entry.uuid)
    expect(link.entry.properties == PROPERTIES.WRITE | PROPERTIES.INDICATE, "its properties are %s" % link.entry.properties)
    link.close()


# secure-dfu case 84
@scenario()
def buttonless_wants_indications_on(context):
    of(context, "open")
    context.device.start()
    link, _ = application(context)
    error = link.write(link.entry, ENTER, True)
    expect(error == CCCD_IMPROPERLY_CONFIGURED, "ATT error %s, expected 0xfd" % error)
    descriptor = link.entry.get_descriptor(CCCD)
    context.central.run(link.connection.gatt_client.write_value(descriptor, b"\x01\x00", True))
    error = link.write(link.entry, ENTER, True)
    expect(error == CCCD_IMPROPERLY_CONFIGURED, "with notifications on: ATT error %s, expected 0xfd" % error)
    link.silent(0.5)
    expect(link.reason is None, "the link is down")
    link.close()


# secure-dfu case 85
@scenario(("android",), ("ios",))
def buttonless_update(context, phone):
    """The whole way of the two libraries, to the new image that runs and is confirmed."""
    of(context, "open")
    context.device.start()
    name = NAME if phone == "ios" else None
    address, seconds = enter(context, name)
    started = time.monotonic()
    find_update_mode(context, address)
    expect(time.monotonic() - started < 2, "the update mode advertised only after %.1f s" % (time.monotonic() - started))
    if name:
        _, response = context.central.advertised()
        names = [value for kind, value in core.AdvertisingData.from_bytes(response).ad_structures if kind == 9]
        expect(names == [name], "the update mode advertises %s, the phone looks for %s" % (names, name))
    sender = context.phone("small-2.0.0", style=phone)
    link = sender.connect()
    check_update_mode(link)
    link.close()
    sender.update()
    context.finished(sender, "small-2.0.0")
    application(context)[0].close()
    context.notes.append("closed %.0f ms after the answer" % (1000 * seconds))


def check_update_mode(link):
    """FE59 is Secure DFU, and there is nothing of the product."""
    expect(len(link.service.characteristics) == 2, "FE59 of the update mode has other characteristics")
    expect(all(service.uuid != LAMP_SERVICE for service in link.services), "the update mode has the product's service")
    expect(sum(service.uuid == SERVICE for service in link.services) == 1, "FE59 is there twice")


@scenario()
def buttonless_resets_behind_the_confirmation(context):
    """A phone that confirms late is waited for."""
    of(context, "open")
    context.device.start()
    link, address = application(context)
    link.subscribe_now()
    link.hold_confirmations()
    context.device.starts_over = True
    answer = link.ask(ENTER)
    expect(answer == ENTERS, "answered " + answer.hex(" "))
    link.silent(1.5)
    expect(link.reason is None, "the link was closed before the confirmation")
    link.confirm_now()
    link.wait_for_disconnection_after(answer)
    restarted(context)
    find_update_mode(context, address)


@scenario()
def buttonless_enters_when_the_link_is_lost_instead_of_the_confirmation(context):
    """The phone takes that for a success."""
    of(context, "open")
    context.device.start()
    link, address = application(context)
    link.subscribe_now()
    link.hold_confirmations()
    context.device.starts_over = True
    expect(link.ask(ENTER) == ENTERS, "not answered")
    link.close()
    restarted(context)
    find_update_mode(context, address)


# secure-dfu cases 86, 87, 88
@scenario()
def buttonless_answers(context):
    """Names and unknown requests, with the codes of the SDK; the device stays the application."""
    of(context, "open")
    context.device.start()
    link, _ = application(context)
    link.subscribe_now()
    longest = b"n" * 20
    for request, answer in ((b"\x07", "20 07 02"), (b"\x02\x00", "20 02 05"), (b"\x02\x08Dfu12345", "20 02 01"),
                            (b"\x02\x05abc", "20 02 05"), (b"\x02\x14" + longest, "20 02 01")):
        if len(request) <= link.mtu - 3:
            got = link.ask(request)
            expect(got.hex(" ") == answer, "%s is answered %s, not %s" % (request.hex(" "), got.hex(" "), answer))
    link.mtu = context.central.run(Peer(link.connection).request_mtu(247))
    got = link.ask(b"\x02\x15" + longest + b"n")
    expect(got.hex(" ") == "20 02 05", "a name of 21 bytes is answered " + got.hex(" "))
    link.silent(0.5)
    link.close()


@scenario()
def buttonless_product_may_refuse(context):
    """While the lamp is on the request fails; then it does not, and the device did not reset before."""
    of(context, "open")
    context.device.start()
    link, address = application(context)
    link.subscribe_now()
    expect(link.write(link.lamp, b"\x01", True) is None, "the lamp does not go on")
    answer = link.ask(ENTER)
    expect(answer == b"\x20\x01\x04", "answered " + answer.hex(" "))
    link.silent(1)
    expect(link.reason is None, "the link is down")
    expect(link.write(link.lamp, b"\x00", True) is None, "the lamp does not go off")
    context.device.starts_over = True
    expect(link.ask(ENTER) == ENTERS, "refused with the lamp off")
    restarted(context)
    find_update_mode(context, address)


@scenario()
def buttonless_returns_when_nobody_comes(context):
    of(context, "open")
    context.device.start()
    address, _ = enter(context)
    find_update_mode(context, address)
    started = time.monotonic()
    context.device.starts_over = True
    took = expect_application_again(context, TIMEOUT_S - 3, TIMEOUT_S + 5, started)
    context.notes.append("after %.1f s" % took)


@scenario()
def buttonless_returns_when_the_phone_goes_away_and_goes_on_later(context):
    """The application comes back soon; the next time the transfer goes on where it was."""
    of(context, "open")
    context.device.start()
    enter(context)
    sender = context.phone("medium-2.3.4")
    link = sender.connect()
    sender.send_init_packet()
    sender.send_object(0, OBJECT_SIZE)
    context.device.starts_over = True
    link.close()
    took = expect_application_again(context, GONE_S - 1, GONE_S + 5, time.monotonic())
    enter(context)
    link = sender.connect()
    _, offset, _ = link.select(DATA)
    expect(offset == OBJECT_SIZE, "the transfer goes on at %u" % offset)
    link.close()
    sender.update()
    context.finished(sender, "medium-2.3.4")
    context.notes.append("back after %.1f s" % took)


@scenario()
def buttonless_waits_for_a_phone_that_comes_back_at_once(context):
    of(context, "open")
    context.device.start()
    enter(context)
    sender = context.phone("small-2.0.0")
    for _ in range(4):
        sender.connect().close()
        time.sleep(GONE_S / 4)
    sender.update()
    context.finished(sender, "small-2.0.0")


@scenario()
def buttonless_power_cut_in_update_mode(context):
    """The application starts, and no phone asked it for anything."""
    of(context, "open")
    context.device.start()
    enter(context)
    context.device.power_cut()
    context.device.start()
    application(context)[0].close()


@scenario()
def buttonless_send_updates(context):
    """`bledfu send` goes the same way."""
    of(context, "open")
    context.device.start()
    context.device.starts_over = True
    with computer(context) as one:
        one.send(package("small-2.0.0"))
        restarted(context)
        _, image = load(package("small-2.0.0"))
        context.device.check_update(image, VERSIONS["small-2.0.0"])
        code, told = one.end()
        expect(code == 0, "exit code %u: %s" % (code, "; ".join(one.errors)))
        context.notes.append("%s by %s" % (told["runs"]["version"], told["runs"]["proof"]))


# ---- with bonds

class BondedLink(BluetoothLink):
    """Android, with a bond: encrypts, and waits for Service Changed before it looks for services."""

    def __init__(self, central, trace):
        super().__init__(central, trace)
        self.changed = []

    async def before_discovery(self):
        client = self.connection.gatt_client
        original, came = client.on_att_handle_value_indication, asyncio.Event()

        def on_indication(indication):
            self.changed.append(bytes(indication.attribute_value))
            came.set()
            original(indication)

        client.on_att_handle_value_indication = on_indication
        await self.connection.encrypt()
        try:
            await asyncio.wait_for(came.wait(), SERVICE_CHANGED_S)
        except asyncio.TimeoutError:
            pass


def keep_bonds(context):
    """The phone keeps its bonds while the device resets, and pairs without a display."""
    context.central.device.keystore = MemoryKeyStore()
    context.central.device.pairing_config_factory = lambda connection: PairingConfig(sc=True, mitm=False, bonding=True)


async def watch_service_changed(link, seen):
    """Turns on the indications of Service Changed, as Android does for a bonded device."""
    changed = next(characteristic for service in link.services if service.uuid == gatt.GATT_GENERIC_ATTRIBUTE_SERVICE
                   for characteristic in service.characteristics if characteristic.uuid == gatt.GATT_SERVICE_CHANGED_CHARACTERISTIC)
    await changed.subscribe(lambda value: seen.append(bytes(value)))


# secure-dfu case 89
@scenario()
def buttonless_bonds_stranger_is_refused(context):
    """On a link that is not encrypted: by an ATT error."""
    of(context, "bonds")
    context.device.start()
    link, _ = application(context)
    error = link.write(link.entry, ENTER, True)
    expect(error in (INSUFFICIENT_AUTHENTICATION, INSUFFICIENT_ENCRYPTION), "ATT error %s" % error)
    link.silent(0.5)
    link.close()


@scenario()
def buttonless_bonds_update(context):
    """Pair, ask, find the device at the same address, be told that the services changed, update over the same bond."""
    of(context, "bonds")
    context.device.start()
    keep_bonds(context)
    link, address = application(context)
    context.central.run(link.connection.pair())
    seen = []
    context.central.run(watch_service_changed(link, seen))
    link.subscribe_now()
    name = link.ask(b"\x02\x01a")
    expect(name == b"\x20\x02\x02", "a name is answered %s: this characteristic has none" % name.hex(" "))
    context.device.starts_over = True
    answer = link.ask(ENTER)
    expect(answer == ENTERS, "answered " + answer.hex(" "))
    link.wait_for_disconnection_after(answer)
    restarted(context)
    found = context.central.find()
    expect(bytes(found) == bytes(address), "the update mode has the address %s, the application %s" % (found, address))
    sender = context.phone("small-2.0.0")
    update = BondedLink(context.central, sender.trace)
    context.central.run(update.open(found, 247, 15, True))
    check_update_mode(update)
    context.central.run(update.subscribe())
    sender.connect = lambda: sender.use(update)
    sender.update()
    context.finished(sender, "small-2.0.0")
    expect(update.changed, "the services changed, and the phone was not told")
    context.notes.append("Service Changed %s" % update.changed[0].hex(" "))

