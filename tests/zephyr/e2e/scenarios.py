# SPDX-License-Identifier: Apache-2.0
"""What a phone does with the device, and what must come of it."""

import os
import struct
import time

import made
from bumble import core, gatt
from central import SERVICE, BluetoothPhone
from gatt import CREATE, Disconnected, Refused, Wrong, crc32, load
from harness import Failure, package, package_facts
from smp_phone import SmpChannel
from wire_trace import COMMAND, DATA, EXECUTE, OBJECT_SIZE, SET_PRN

SCENARIOS = []
WRITE_NOT_PERMITTED, CCCD_IMPROPERLY_CONFIGURED = 0x03, 0xFD
CLOSED_BY_PEER = 0x13
# From the last answer to the end of the link: late enough that the answer is delivered, and not a supervision timeout.
SECONDS_TO_DISCONNECTION = 5.0
VERSIONS = {"small-1.0.0": "1.0.0", "small-2.0.0": "2.0.0", "small-3.0.0": "3.0.0", "medium-2.3.4": "2.3.4+5", "odd-2.0.0": "2.0.0", "demo-2.0.0": "2.0.0"}


def scenario(*variants):
    """Registers a function once, or once per variant (a tuple of arguments)."""
    def register(function):
        for variant in variants or [()]:
            name = (function.__name__ + "".join("_%s" % part for part in variant)).replace(" ", "-")
            SCENARIOS.append((name, function, variant))
        return function
    return register


class Skipped(Exception):
    """The scenario does not apply to this device."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


class Context:
    """One device, one phone, and what the scenario wants to say at its end."""

    def __init__(self, tools, central, device):
        self.tools, self.central, self.device = tools, central, device
        self.notes = []
        if tools.client_confirms:
            device.confirms = self._confirm_over_smp

    def _confirm_over_smp(self, permanent):
        """The application leaves it to the phone."""
        link = self.central.connect(subscribe=False)
        channel = SmpChannel(link)
        states = channel.images()
        told = [states[slot].confirmed for slot in sorted(states)]
        if permanent:
            expect(told[0], "it was confirmed before it ran, and is not now")
        else:
            expect(told == [False, True], "before the confirmation the slots are confirmed: %s" % told)
            states = channel.set_state(confirm=True)
            told = [states[slot].confirmed for slot in sorted(states)]
            # Swap using offset leaves the image before where no update is; it is no way back any more, so it is not listed.
            expected = [True] if self.tools.layout.algorithm == "swap-offset" else [True, False]
            expect(told == expected, "after the confirmation the slots are confirmed: %s" % told)
        link.close()

    def phone(self, name, **options):
        return BluetoothPhone(self.central, package(name), **options)

    def phone_with(self, image, version=2, **options):
        """A phone with a package of this image."""
        path = made.package(os.path.join(self.device.folder, "made.zip"), image, version)
        return BluetoothPhone(self.central, path, **options)

    def update(self, name, **options):
        """One whole update, and everything that must hold at its end."""
        phone = self.phone(name, **options)
        phone.update()
        self.finished(phone, name)
        return phone

    def finished(self, phone, name):
        self.finished_as(phone, phone.image, VERSIONS[name])

    def finished_as(self, phone, image, version):
        """The phone is told that it is done, and the device ends with this image."""
        link = phone.link
        expect(not phone.trace.problems, "; ".join(phone.trace.problems[:4]))
        expect(link.late_responses == 0, "%u answers came before the response to their write" % link.late_responses)
        expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % link.reason)
        expect(phone.seconds_to_disconnection < SECONDS_TO_DISCONNECTION,
               "the link was closed only %.1f s after the last answer" % phone.seconds_to_disconnection)
        how = self.device.check_update(image, version)
        self.notes.append("MTU %u, %.0f KiB/s, slowest answer %.0f ms, closed after %.0f ms, %s" % (
            link.mtu, phone.rate() / 1024, phone.trace.slowest[0] * 1000, phone.seconds_to_disconnection * 1000, how))


# ---- discovery and attributes

@scenario()
def discovery(context):
    """Advertising data, service, characteristics with exactly their properties, Service Changed."""
    context.device.start()
    context.central.find()
    data, response = context.central.advertised()
    fields = core.AdvertisingData.from_bytes(data).ad_structures
    flags = [value for kind, value in fields if kind == core.AdvertisingData.FLAGS]
    expect(flags == [b"\x06"], "flags %s, expected 06" % flags)
    uuids = [value for kind, value in fields if kind in (2, 3)]
    expect(any(struct.pack("<H", 0xFE59) in value for value in uuids), "FE59 is not in the advertising data: %s" % data.hex(" "))
    names = [value for kind, value in fields + core.AdvertisingData.from_bytes(response).ad_structures if kind in (8, 9)]
    expect(len(names) == 1 and names[0], "no name in advertising data or scan response")
    link = context.central.connect(mtu=517, subscribe=False)
    expect(link.mtu <= 515, "ATT MTU %u: an attribute of more than 512 bytes" % link.mtu)
    properties = gatt.Characteristic.Properties
    expect(link.control_point.properties == properties.WRITE | properties.NOTIFY,
           "the control point has the properties %s" % link.control_point.properties)
    expect(link.packets.properties == properties.WRITE_WITHOUT_RESPONSE,
           "the packet characteristic has the properties %s" % link.packets.properties)
    expect(len(link.service.characteristics) == 2, "the service has other characteristics")
    expect(link.read_cccd() == b"\0\0", "the CCCD is not off at first")
    expect(sum(service.uuid == SERVICE for service in link.services) == 1, "the service is there twice")
    changed = [characteristic for service in link.services if service.uuid == gatt.GATT_GENERIC_ATTRIBUTE_SERVICE
               for characteristic in service.characteristics if characteristic.uuid == gatt.GATT_SERVICE_CHANGED_CHARACTERISTIC]
    expect(changed, "no Service Changed characteristic: iPhones keep a stale table")
    link.close()
    context.notes.append("'%s', MTU %u of 517" % (names[0].decode(), link.mtu))


# secure-dfu cases 1, 4
@scenario()
def control_point_wants_notifications_on(context):
    """0xFD without, and nothing is processed; the CCCD ends with the link; each characteristic takes its own kind of write."""
    context.device.start()
    init_packet, _ = load(package("small-2.0.0"))
    create = bytes([CREATE, COMMAND]) + struct.pack("<I", len(init_packet))
    for _ in range(2):
        link = context.central.connect(subscribe=False)
        expect(link.read_cccd() == b"\0\0", "the CCCD survived the link")
        error = link.write(link.control_point, create, True)
        expect(error == CCCD_IMPROPERLY_CONFIGURED, "ATT error %s, expected 0xfd" % error)
        link.silent(0.2)
        error = link.write(link.packets, b"\0", True)
        expect(error == WRITE_NOT_PERMITTED, "a Write Request to the packet characteristic: ATT error %s, expected 0x03" % error)
        link.subscribe_now()
        expect(link.select(COMMAND) == (512, 0, 0), "the refused Create was processed")
        link.write(link.control_point, create, False)
        link.silent(0.2)
        expect(link.select(COMMAND) == (512, 0, 0), "a Create by Write Command was processed")
        link.close()


@scenario()
def odd_requests(context):
    """Refused or ignored, and the link stays: unknown, empty, too short, too long."""
    context.device.start()
    link = context.central.connect()
    for request, result in ((b"\x05", 2), (b"\xff", 2), (b"\x00", 2), (b"\x07", 2), (b"\x09\x01", 2), (b"\x08\xaa", 2),
                            (b"\x06\x00", 5), (b"\x01\x01", 3), (b"\x01\x01" + bytes(4), 3), (b"\x01\x01\x01\x02\0\0", 4),
                            (b"\x01\x02\x00\x10\0\0", 8)):
        try:
            answer = link.request(request)
        except Refused as refused:
            expect(refused.result == result, "%s: %s, expected result %02x" % (request.hex(" "), refused, result))
        else:
            raise Failure("%s was answered with success: %s" % (request.hex(" "), answer.hex(" ")))
    link.write(link.control_point, b"", True)       # empty; may be answered by an ATT error, not by a notification
    link.write(link.control_point, bytes(200), True)
    while True:                                     # the answer to the second: some refusal
        try:
            answer = link.notification(1)
            expect(answer[:2] == b"\x60\x00" and answer[2] != 1, "200 bytes were answered " + answer.hex(" "))
        except Wrong:
            break
    link.trace.problems.clear()
    link.raw_packet(b"\x55" * 100)                   # a packet that belongs to nothing
    link.raw_packet(b"")
    expect(link.select(COMMAND) == (512, 0, 0), "state changed by requests that were refused")
    link.close()


@scenario()
def asks_for_a_fast_link(context):
    """To a slow phone: with the first object at the latest the device asks for 15 ms or less, long packets and the 2M PHY."""
    if not context.device.is_a_host:
        raise Skipped("the bridge asks for nothing")
    context.device.start()
    phone = context.phone("medium-2.3.4")
    link = phone.use(context.central.connect(247, interval_ms=60, fast=False, trace=phone.trace))
    phone.send_init_packet()
    phone.send_object(0, OBJECT_SIZE)
    started = time.monotonic()
    while not (link.parameters()[0] <= 15 and link.parameters()[1] == 251 and link.parameters()[2]):
        expect(time.monotonic() - started < 3, "after 3 s: interval %g ms, %u bytes, 2M PHY: %s" % link.parameters())
        time.sleep(0.05)
    context.notes.append("%g ms, %u bytes, 2M PHY after %.0f ms" % (*link.parameters()[:2], 1000 * (time.monotonic() - started)))
    link.close()


@scenario()
def gives_the_interval_back(context):
    """A phone that stops writing has its own interval again after 5 s, and the short one when it goes on."""
    if not context.tools.meets_strangers:
        raise Skipped("only Zephyr's shim gives it back")
    context.device.start()
    phone = context.phone("medium-2.3.4")
    link = phone.use(context.central.connect(247, interval_ms=60, fast=False, trace=phone.trace))

    def wait_for(wanted, what):
        started = time.monotonic()
        while not wanted(link.parameters()[0]):
            expect(time.monotonic() - started < 12, "%s: after 12 s the interval is %g ms" % (what, link.parameters()[0]))
            time.sleep(0.05)
        return time.monotonic() - started

    phone.send_init_packet()
    phone.send_object(0, OBJECT_SIZE)
    wait_for(lambda interval: interval <= 15, "a transfer")
    expect(link.parameters()[0] >= 15, "less than 15 ms was asked for, which Apple's rules forbid")
    seconds = wait_for(lambda interval: interval == 60, "silence")
    phone.send_object(OBJECT_SIZE, 2 * OBJECT_SIZE)
    wait_for(lambda interval: interval <= 15, "the transfer goes on")
    context.notes.append("given back after %.1f s" % seconds)
    link.close()


@scenario()
def unsubscribing_gives_the_device_free(context):
    """A phone that turns notifications off is the peer no longer: its open object is gone, as if its link had ended."""
    if not context.tools.meets_strangers:
        raise Skipped("only Zephyr's shim sees it")
    context.device.start()
    phone = context.phone("medium-2.3.4")
    link = phone.connect()
    phone.send_init_packet()
    link.request(bytes([CREATE, DATA]) + struct.pack("<I", OBJECT_SIZE))
    link.packet(phone.image[:20])
    expect(link.checksum()[0] == 20, "the packet did not arrive")
    context.central.run(link.control_point.unsubscribe())
    expect(context.device.said("the peer has unsubscribed"), "the log does not say that the peer is gone")
    error = link.write(link.control_point, bytes([6, COMMAND]), True)
    expect(error == CCCD_IMPROPERLY_CONFIGURED, "ATT error %s, expected 0xfd" % error)
    link.subscribe_now()
    expect(link.select(DATA)[1] == 0, "the open object outlived its peer")
    link.close()


@scenario()
def who_does_nothing_is_sent_away(context):
    """A central that connects and does not subscribe loses its link; one that has subscribed keeps it."""
    limit = context.tools.idle_link_timeout
    if not 0 < limit <= 30:
        raise Skipped("the limit of this build is %u s" % limit)
    context.device.start()
    link = context.central.connect(subscribe=False)
    link.silent(limit / 2)              # its time began before the discovery, which may take a while
    try:
        link.notification(limit)
        raise Failure("a notification for nobody")
    except Disconnected:
        pass
    expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x" % link.reason)
    link = context.central.connect()
    link.silent(limit + 3)
    expect(link.select(COMMAND)[0] == 512, "the subscribed peer is not answered")
    link.close()


# ---- updates

@scenario(*[(mtu, prn) for mtu in (23, 185, 247) for prn in (0, 12)])
def fresh(context, mtu, prn):
    """A whole update at this MTU with this receipt interval."""
    context.device.start()
    phone = context.update("small-2.0.0", mtu=mtu, prn=prn)
    expect(phone.link.mtu == mtu, "the device made it MTU %u" % phone.link.mtu)
    expect(bool(phone.trace.receipts) == bool(prn), "%u receipts with interval %u" % (phone.trace.receipts, prn))
    expect(phone.trace.resumed_at == 0 and phone.trace.data_bytes == len(phone.image), "not from the start")


@scenario(("android",), ("ios",), ("web",))
def as_phones_do(context, style):
    """The order of requests and packet sizes of each library, asking for the MTU 517 that Android asks for."""
    context.device.start()
    context.update("odd-2.0.0", style=style, mtu=517, prn=12 if style == "ios" else 0)


@scenario((0,), (12,))
def demo_image(context, prn):
    """475,384 bytes, 117 objects: the size of the case."""
    context.device.start()
    context.update("demo-2.0.0", mtu=247, prn=prn)


@scenario()
def updates_in_a_row(context):
    """The second replaces what the first left, and its last object is a whole one; of the same once more nothing need be sent."""
    context.device.start()
    context.update("small-2.0.0")
    context.update("small-3.0.0")
    phone = context.phone("small-3.0.0")
    expect_told_that_all_is_there(phone)
    context.device.expect_runs_and_nothing_staged(phone.image, "3.0.0")


@scenario()
def staged_update_outlives_a_start_without_boot_stage(context):
    """The application starts before a boot stage has looked at the slot, as with another boot stage's rules: nothing is touched."""
    if not context.device.is_a_host:
        raise Skipped("every start of bledfu serve is one of its boot stage")
    context.device.starts_over = True
    context.device.start()
    phone = context.phone("small-2.0.0")
    phone.update()
    expect(context.central.wait_until_reset(context.device.lives), "the device did not reset")
    context.device.check_start_without_boot_stage(phone.image)


# ---- interrupted

def expect_small_objects(size):
    if size != OBJECT_SIZE:
        raise Skipped("counts in objects of %u bytes, these have %u" % (OBJECT_SIZE, size))


def send_until(context, phone, objects, packets):
    """The init packet if need be, so many whole objects, and so many packets of the next; the link stays up.

    Returns the link, the offset it went on from, and the offset that is executed now.
    """
    link = phone.connect()
    phone.send_init_packet()
    size, begin, crc = link.select(DATA)
    expect_small_objects(size)
    expect(crc == crc32(phone.image[:begin]), "offset %u with a CRC that does not fit" % begin)
    offset = begin
    for _ in range(objects):
        phone.send_object(offset, offset + size)
        offset += size
    if packets:
        phone.create(offset, offset + size)
        for index, data in phone.packets(offset, offset + size):
            if index < packets:
                link.packet(data)
        time.sleep(0.05)
    return link, begin, offset


def resumes(context, name, offset, **options):
    phone = context.update(name, **options)
    at = phone.trace.resumed_at
    expect(at is not None and at >= offset and at > 0, "resumed at %s, %u bytes were executed" % (at, offset))
    expect(at % OBJECT_SIZE == 0, "resumed at %u, inside an object" % at)
    expect(phone.trace.command_bytes == 0, "the init packet was sent again")
    expect(phone.trace.data_bytes == len(phone.image) - at, "%u bytes sent for the rest" % phone.trace.data_bytes)
    context.notes.append("resumed at %u of %u" % (at, len(phone.image)))


@scenario((23,), (247,))
def disconnected_in_an_object(context, mtu):
    """The phone walks away twice in the middle of an object; the last time it goes on where the last whole object ended."""
    context.device.start()
    offset = 0
    for objects, extra in ((2, 3), (3, 7)):
        link, begin, offset_now = send_until(context, context.phone("medium-2.3.4", mtu=mtu), objects, extra)
        expect(begin == offset, "went on at %u, %u bytes were executed" % (begin, offset))
        offset = offset_now
        link.close()
    resumes(context, "medium-2.3.4", offset, mtu=mtu)


@scenario(("link",), ("power",))
def lost_in_a_large_object(context, what):
    """The link, or the power, is lost after some sectors of an object: the rest is sent without Create, none of them twice."""
    context.device.start()
    phone = context.phone("medium-2.3.4")
    link = phone.connect()
    phone.send_init_packet()
    size, _, _ = link.select(DATA)
    if size < 4 * OBJECT_SIZE:
        raise Skipped("objects have %u bytes" % size)
    phone.create(0, size)
    for index, data in phone.packets(0, size):
        if index <= 2 * OBJECT_SIZE // len(data) + 1:
            link.packet(data)
    link.checksum()
    if what == "power":
        context.device.power_cut()
        context.device.start()
    else:
        link.close()
    resumes(context, "medium-2.3.4", 2 * OBJECT_SIZE)


@scenario()
def disconnected_between_objects(context):
    context.device.start()
    link, _, offset = send_until(context, context.phone("medium-2.3.4"), 4, 0)
    link.close()
    resumes(context, "medium-2.3.4", offset)


@scenario()
def disconnected_after_create(context):
    """The open object without a byte is forgotten: Execute right after Select is success, not 08 (pitfall 9)."""
    context.device.start()
    phone = context.phone("medium-2.3.4")
    link, _, offset = send_until(context, phone, 2, 0)
    phone.create(offset, offset + OBJECT_SIZE)
    link.close()
    resumes(context, "medium-2.3.4", offset)


@scenario()
def power_cut_in_an_object(context):
    """The device dies and starts again on the same flash; executed objects are still there."""
    context.device.start()
    link, _, offset = send_until(context, context.phone("medium-2.3.4"), 3, 5)
    context.device.power_cut()
    try:
        link.notification()
        raise Failure("the link survived the device")
    except Disconnected:
        pass
    context.device.start()
    resumes(context, "medium-2.3.4", offset)


@scenario()
def power_cut_in_the_first_object(context):
    """An init packet and no object: the next phone starts from the beginning, and its update is whole."""
    context.device.start()
    send_until(context, context.phone("medium-2.3.4"), 0, 5)
    context.device.power_cut()
    context.device.start()
    phone = context.update("medium-2.3.4")
    expect(phone.trace.data_bytes == len(phone.image), "%u bytes sent of %u" % (phone.trace.data_bytes, len(phone.image)))


@scenario((0,), (3,))
def power_cuts_on_the_way(context, prn):
    """Three cuts, between two frames of the phone; each time it goes on with what was executed, at least."""
    context.device.start()
    kept = 0
    for cut in (5000, 22000, 41500):
        def on_frame(trace, cut=cut):
            if trace.resumed_at is not None and trace.resumed_at + trace.data_bytes >= cut and not context.device.is_off:
                context.device.power_cut()
        phone = context.phone("medium-2.3.4", prn=prn, on_frame=on_frame)
        try:
            phone.update()
            raise Failure("the update survived the power cut at %u" % cut)
        except Disconnected:
            pass
        trace = phone.trace
        expect(trace.resumed_at >= kept, "resumed at %u, %u bytes were executed" % (trace.resumed_at, kept))
        kept = trace.resumed_at + trace.executed * OBJECT_SIZE
        context.device.start()
    resumes(context, "medium-2.3.4", kept, prn=prn)


@scenario()
def another_package_after_a_break(context):
    """Another init packet wipes what is there of the first update."""
    context.device.start()
    link, _, _ = send_until(context, context.phone("medium-2.3.4"), 3, 5)
    link.close()
    phone = context.update("small-2.0.0")
    expect(phone.trace.resumed_at == 0, "resumed at %u with another package" % phone.trace.resumed_at)


@scenario()
def receipts_are_off_after_a_new_connection(context):
    context.device.start()
    link = context.central.connect()
    link.request(SET_PRN, struct.pack("<H", 1))
    link.close()
    link = context.central.connect()
    init_packet, _ = load(package("small-2.0.0"))
    link.request(CREATE, COMMAND, struct.pack("<I", len(init_packet)))
    for at in range(0, len(init_packet), 20):
        link.packet(init_packet[at:at + 20])
    link.silent(0.3)
    expect(link.checksum() == (len(init_packet), crc32(init_packet)), "the init packet did not arrive whole")
    link.close()


@scenario()
def abort_closes_the_link(context):
    """0C in the middle of an object: the link ends within a second, and the next update is whole."""
    context.device.start()
    link, _, _ = send_until(context, context.phone("small-2.0.0"), 1, 2)
    asked = time.monotonic()
    link.abort()
    try:
        answer = link.notification(5)
        raise Failure("abort was answered " + answer.hex(" "))
    except Disconnected:
        seconds = time.monotonic() - asked
    expect(seconds < 1.0, "the link was closed after %.1f s" % seconds)
    context.update("small-2.0.0")


# ---- lost on the way

@scenario((0,), (12,))
def two_objects_lost(context, prn):
    """One object lost whole, one with a hole: the checksum says so each time, and the object is created again."""
    context.device.start()
    phone = context.phone("medium-2.3.4", prn=prn)
    link = phone.connect()
    phone.send_init_packet()
    image = phone.image
    size, offset, _ = link.select(DATA)
    expect_small_objects(size)
    expect(offset == 0, "offset %u" % offset)
    if prn:
        phone.set_receipts()
    lost = {1: lambda index: True, 4: lambda index: index == 5}
    for number, begin in enumerate(range(0, len(image), size)):
        end = min(begin + size, len(image))
        if number in lost:
            phone.create(begin, end)
            arrived, count = image[:begin], 0
            for index, data in phone.packets(begin, end):
                if not lost[number](index):
                    link.packet(data)
                    arrived += data
                    count += 1
                    if prn and count % prn == 0:
                        link.notification()
            told = link.checksum()
            expect(told == (len(arrived), crc32(arrived)),
                   "checksum %u %08X, arrived are %u %08X" % (*told, len(arrived), crc32(arrived)))
            try:
                link.request(EXECUTE)
            except Refused as answer:
                expect(answer.result == 8, "Execute of an incomplete object: %s" % answer)
            else:
                raise Failure("Execute of an incomplete object was answered with success")
        phone.send_object(begin, end)
    link.wait_for_disconnection()
    expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % link.reason)
    expect(not link.trace.problems, "; ".join(link.trace.problems[:4]))
    context.notes.append(context.device.check_update(image, VERSIONS["medium-2.3.4"]))


@scenario()
def one_packet_too_many(context):
    """More than the object holds: the packet is dropped whole, and the object is right."""
    context.device.start()
    phone = context.phone("small-2.0.0")
    link = phone.connect()
    phone.send_init_packet()
    phone.send_object(0, OBJECT_SIZE, execute=False)
    link.raw_packet(b"\xaa")
    told = link.checksum()
    expect(told == (OBJECT_SIZE, crc32(phone.image[:OBJECT_SIZE])), "checksum %u %08X after one packet too many" % told)
    link.request(EXECUTE)
    link.close()
    resumes(context, "small-2.0.0", OBJECT_SIZE)


# ---- refused

def refused(context, name):
    """Sends the package; the refusal, as packages.json writes it, the phone, and its link if that still stands."""
    phone = context.phone(name)
    link = phone.connect()
    stage = "init"
    try:
        phone.send_init_packet()
        stage = "create"
        phone.send_image()
    except Refused as answer:
        if phone.trace.final_execute_sent:
            stage = "final"
            # Android's library sends Execute once more after an 05, and hears no answer from then on.
            expect(answer.result != 5, "the last Execute is answered 05")
        result = "%02X" % answer.result + (" %02X" % answer.extended if answer.extended is not None else "")
        return "%s %s" % (stage, result), phone, link
    raise Failure("the device took %s" % name)


@scenario(*[(name,) for name in ("wrong-signature", "unsigned", "wrong-hardware", "damaged-init", "over-limit",
                                 "wrong-hash", "wrong-image-key", "no-image", "boot-validation-wrong")])
def refuses(context, name):
    """With the right code; nothing is staged, the link stays, and a good package goes through it."""
    if name == "over-limit" and context.device.is_a_host and context.tools.layout.algorithm == "copy":
        raise Skipped("with copy an image may be one page larger: it fits")
    context.device.start()
    expected = package_facts(name)["expect"]
    code, phone, link = refused(context, name)
    stage, codes = expected.split(" ", 1)
    expect(code in ["%s %s" % (stage, one) for one in codes.split(" or ")], "answered %s, expected %s" % (code, expected))
    _, offset, crc = link.select(COMMAND)
    expect(stage != "init" or name == "damaged-init" or (offset, crc) == (0, 0), "the refused init packet is still there")
    if stage == "final":
        expect(link.select(DATA)[1:] == (0, 0), "the refused image is still there")
    context.device.expect_nothing_staged()
    link.silent(0.3)
    link.close()
    context.notes.append(code)
    context.update("small-2.0.0")


def refused_in_the_first_object(context, image, word):
    """The device refuses the image by its first bytes, and its log has `word`; the link stays."""
    phone = context.phone_with(image)
    link = phone.connect()
    phone.send_init_packet()
    try:
        phone.create(0, min(OBJECT_SIZE, len(phone.image)))
        for _, data in phone.packets(0, min(OBJECT_SIZE, len(phone.image))):
            link.packet(data)
        link.request(EXECUTE)
    except Refused as answer:
        last = len(phone.image) <= OBJECT_SIZE
        expect(not last or answer.result != 5, "the last Execute is answered 05")
        context.notes.append(str(answer))
    else:
        raise Failure("the first object was taken")
    expect(context.device.said(word), "the device does not say '%s'" % word)
    context.device.expect_nothing_staged()
    return link


@scenario(*[(kind, size) for kind in made.KINDS for size in ("small-2.0.0", "tiny")])
def refuses_kind(context, kind, size):
    """An image that its first 32 bytes say cannot be started: refused at the first object, also if that is the last one."""
    context.device.start()
    image = load(package("small-2.0.0"))[1]
    link = refused_in_the_first_object(context, made.with_flag(image if size != "tiny" else image[:2048], kind), kind)
    link.close()
    context.update("small-2.0.0")


@scenario((0x1000,), (0xF5000,), (0x01000000,))
def refuses_reset_vector(context, address):
    """A program for another place (a network core's, say): refused at the first object; one for this slot is taken."""
    if not context.device.checks_address:
        raise Skipped("the device does not look at the reset vector")
    start = context.device.primary_address + 0x300
    factory, right, wrong = (made.with_vectors(context.tools, context.device.folder, version, reset)
                             for version, reset in (("1.0.0", start), ("2.0.0", start), ("2.0.0", address)))
    context.device.use_factory_image(factory)
    context.device.start()
    link = refused_in_the_first_object(context, wrong, "reset vector")
    link.close()
    phone = context.phone_with(right)
    phone.update()
    context.finished(phone, "small-2.0.0")


# ---- the last answer was lost

def expect_told_that_all_is_there(phone):
    """The phone comes back with its package, has nothing to send, and Execute succeeds."""
    link = phone.connect()
    phone.send_init_packet()
    _, offset, crc = link.select(DATA)
    expect((offset, crc) == (len(phone.image), crc32(phone.image)), "the device says it holds %u of %u bytes" % (offset, len(phone.image)))
    link.request(EXECUTE)
    link.wait_for_disconnection()
    expect(not phone.trace.problems, "; ".join(phone.trace.problems[:4]))
    expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % link.reason)


def send_all_but_hear_no_answer(context, name):
    """The power goes with the answer to the last Execute."""
    def on_frame(trace):
        if trace.final_execute_answered and not context.device.is_off:
            context.device.power_cut()
    phone = context.phone(name, on_frame=on_frame)
    try:
        phone.update()
    except Disconnected:
        pass
    expect(context.device.is_off, "the last Execute was not answered")
    return phone


@scenario()
def last_answer_lost_and_installed(context):
    """The phone comes back when the image runs already: nothing is sent, and nothing is installed twice."""
    context.device.start()
    send_all_but_hear_no_answer(context, "small-2.0.0")
    context.device.boots_after_cut("2.0.0")
    phone = context.phone("small-2.0.0")
    expect_told_that_all_is_there(phone)
    context.device.expect_runs_and_nothing_staged(phone.image, "2.0.0")
    context.update("small-3.0.0")


@scenario()
def last_answer_lost_and_staged(context):
    """The phone comes back before a boot stage has looked: nothing is sent, and the image is installed once."""
    if not context.device.is_a_host:
        raise Skipped("every start of bledfu serve is one of its boot stage")
    context.device.start()
    send_all_but_hear_no_answer(context, "small-2.0.0")
    context.device.start()
    phone = context.phone("small-2.0.0")
    expect_told_that_all_is_there(phone)
    context.notes.append(context.device.check_update(phone.image, "2.0.0"))


@scenario()
def another_package_when_one_is_staged(context):
    """Nobody is told that another package is there; it replaces the staged one, or is refused until the boot stage has looked."""
    if not context.device.is_a_host:
        raise Skipped("every start of bledfu serve is one of its boot stage")
    context.device.start()
    send_all_but_hear_no_answer(context, "small-2.0.0")
    context.device.start()
    phone = context.phone("small-3.0.0")
    link = phone.connect()
    try:
        phone.send_init_packet()
        expect(link.select(DATA)[1] == 0, "another image is said to be there")
        link.close()
    except Refused as answer:               # not before the boot stage has looked
        link.close()
        context.notes.append(str(answer))
        context.device.check_staged(load(package("small-2.0.0"))[1])
        context.device.power_cut()
        context.device.boots_after_cut("2.0.0")
    context.update("small-3.0.0")


# ---- a primary slot with a trailer from the factory

@scenario()
def padded_factory_image(context):
    """Made with `imgtool --pad`: magic, and neither image_ok nor copy_done. It runs for good, and an update goes through."""
    if not context.device.is_a_host:
        raise Skipped("bledfu serve makes its own factory image")
    context.device.pad_primary()
    context.device.start()
    context.update("small-2.0.0")
