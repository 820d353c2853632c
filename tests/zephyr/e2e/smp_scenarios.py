# SPDX-License-Identifier: Apache-2.0
"""What a phone does over SMP, and what must come of it. Skipped on a device that has no SMP service."""

import functools
import hashlib
import struct
import time

import cbor2
import made
import scenarios
from bumble import core, gatt
from central import SMP, SMP_SERVICE
from gatt import COMMAND, CREATE, DATA, Refused, load
from harness import package
from scenarios import CLOSED_BY_PEER, OBJECT_SIZE, SECONDS_TO_DISCONNECTION, VERSIONS, Failure, Skipped, expect, send_until
from smp import os_management as os_group
from smp_phone import (CHUNK_TIMEOUT, HEADER, IMAGE, OS, READ, V1, V2, WRITE, SmpChannel, SmpPhone, SmpRefused, check, chunk, frame_of)

NO_FREE_SLOT, ALREADY_PENDING, TEST_OF_ACTIVE, INVALID_TLV = (IMAGE, 9), (IMAGE, 28), (IMAGE, 33), (IMAGE, 5)
CONFIRMATION_DENIED, BUSY = (IMAGE, 32), (None, 10)
NOT_SUPPORTED = {"rc": 8}
# MCUboot's numbers of the ways to install; it has none for the copy.
MODES = {"swap-offset": 9, "swap-move": 3, "copy": -1}
TAKEOVER_SECONDS = 10
# A device forgets a frame whose end does not come for two seconds; the phone's writes take a while to leave.
PAUSE_SECONDS = 3.5


def scenario(*variants):
    """As `scenarios.scenario`, for devices with SMP."""
    def register(function):
        @functools.wraps(function)
        def run(context, *variant):
            if not context.tools.has_smp:
                raise Skipped("the device has no SMP service")
            function(context, *variant)
        scenarios.scenario(*variants)(run)
        return run
    return register


def image_of(name):
    return load(package(name))[1]


def smp_version(name):
    """A build number follows a full stop here."""
    return VERSIONS[name].replace("+", ".")


def flags(state):
    return {name for name in ("bootable", "pending", "confirmed", "active", "permanent") if getattr(state, name)}


def expect_flags(states, *expected):
    """The flags of slot 0, 1: all nine keys are there, and say this."""
    told = [flags(states[slot]) for slot in sorted(states)]
    wanted = [{"bootable", *names.split()} for names in expected]
    expect(told == wanted, "the slots are %s, expected %s" % (told, wanted))
    expect(all(getattr(state, "bootable") is not None and getattr(state, "pending") is not None for state in states.values()),
           "a flag is not sent")


def refusal(call, *arguments, **options):
    """The error by which the device refuses."""
    try:
        told = call(*arguments, **options)
    except SmpRefused as refused:
        return refused.error
    raise Failure("not refused: %s" % (told,))


def phone_with(context, name, **options):
    return SmpPhone(context.central, image_of(name), **options)


def reset(context, phone):
    """Answer first, then the end of the link, then the reset; returns the seconds between the first two."""
    phone.channel.reset()
    seconds = phone.channel.wait_for_disconnection()
    expect(phone.link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % phone.link.reason)
    expect(seconds < SECONDS_TO_DISCONNECTION, "the link was closed %.2f s after the last answer" % seconds)
    return seconds


def restart(context, phone):
    """The device starts again with nothing staged. A stranger that uploads may not ask for that, and not on trial; then the power goes."""
    if context.tools.meets_strangers:
        told = refusal(phone.channel.reset)
        expect(told == BUSY, "a stranger's reset: %s" % (told,))
        context.device.power_cut()
    else:
        reset(context, phone)


def finish(context, phone, name, confirm=False):
    """The image is in the slot: mark it, reset, and everything that must hold then."""
    channel = phone.channel
    states = channel.set_state(phone.digest, confirm)
    expect_flags(states, "active confirmed", "pending permanent" if confirm else "pending")
    expect((states[1].version, states[1].hash) == (smp_version(name), phone.digest), "slot 1 holds %s" % (states[1],))
    expect(channel.images() == states, "another list a moment later")
    expect(channel.set_state(phone.digest, confirm) == states, "the second time is not as the first")
    seconds = reset(context, phone)
    how = context.device.check_update(phone.image, VERSIONS[name], confirm)
    states = look(context)
    # The old image may be gone from slot 1 by now: what nobody needs is erased while nothing else happens.
    expect_flags({0: states[0]}, "active confirmed")
    left = flags(states[1]) - {"bootable"} if 1 in states else set()
    expect(not left, "slot 1 is %s" % left)
    expect((states[0].version, states[0].hash) == (smp_version(name), phone.digest), "slot 0 holds %s" % (states[0],))
    context.notes.append("MTU %u, window %u, %u of %u chunks again, %.0f KiB/s, slowest answer %.0f ms, closed after %.0f ms, %s" % (
        phone.link.mtu, phone.window, phone.repeated, phone.sent, phone.rate() / 1024, phone.slowest * 1000, seconds * 1000, how))


def look(context):
    """The list, by a phone that comes and goes."""
    link = context.central.connect(subscribe=False)
    states = SmpChannel(link).images()
    link.close()
    return states


def update(context, name, confirm=False, **options):
    """One whole update."""
    phone = phone_with(context, name, **options)
    phone.connect()
    phone.upload()
    finish(context, phone, name, confirm)
    return phone


# ---- discovery and what apps ask first

@scenario()
def smp_discovery(context):
    """Both services are advertised; the characteristic has just the two properties apps look for; silence without notifications."""
    context.device.start()
    context.central.find()
    data, _ = context.central.advertised()
    uuids = b"".join(value for kind, value in core.AdvertisingData.from_bytes(data).ad_structures if kind in (2, 3, 6, 7))
    expect(struct.pack("<H", 0xFE59) in uuids, "FE59 is not in the advertising data: " + data.hex(" "))
    expect(bytes(SMP_SERVICE) in uuids, "the SMP service is not in the advertising data: " + data.hex(" "))
    link = context.central.connect(mtu=498, subscribe=False)
    expect(link.mtu == 498, "ATT MTU %u, asked for 498" % link.mtu)
    services = [service for service in link.services if service.uuid == SMP_SERVICE]
    expect(len(services) == 1 and len(services[0].characteristics) == 1, "%u SMP services" % len(services))
    properties = gatt.Characteristic.Properties
    expect(link.smp.properties == properties.WRITE_WITHOUT_RESPONSE | properties.NOTIFY == 0x14,
           "the characteristic %s has the properties %s" % (SMP, link.smp.properties))
    expect(link.read_cccd(link.smp) == b"\0\0", "the CCCD is not off at first")
    link.raw_write(link.smp, frame_of(WRITE, OS, 5, {}))             # a reset that must not be heard
    channel = SmpChannel(link)
    channel.silent(0.5)
    channel.echo()
    link.close()


@scenario()
def smp_as_android_looks(context):
    """What the Device Manager app asks on Android's connect screen, in its order: everything is answered."""
    context.device.start()
    phone = phone_with(context, "small-2.0.0")
    channel = phone.connect()
    expect((phone.buf_size, phone.buf_count) == (2475, 4), "parameters %u and %u" % (phone.buf_size, phone.buf_count))
    channel.request(os_group.MCUMgrParametersReadRequest)
    output = channel.request(os_group.OSApplicationInfoReadRequest, format="sv").output
    expect(context.device.calls_itself in output, "the application calls itself " + output)
    expect(channel.exchange(frame_of(READ, 128, 0, {})) == NOT_SUPPORTED, "group 128 is there")
    expect(channel.request(os_group.BootloaderInformationReadRequest).bootloader == "MCUboot", "another boot stage")
    told = refusal(channel.request, os_group.BootloaderInformationReadRequest, query="active_b0_slot")
    expect(told == (OS, 3), "active_b0_slot is answered with %s" % (told,))
    told = channel.exchange(frame_of(READ, OS, 8, {"query": "mode"}))
    algorithm = context.tools.layout.algorithm if context.tools.layout else "swap-offset"
    expected = {"mode": MODES[algorithm], **({"no-downgrade": True} if context.device.refuses_older else {})}
    expect(told == expected, "the mode is %s with %s" % (told, algorithm))
    channel.request(os_group.OSApplicationInfoReadRequest, format="a")
    told = refusal(channel.request, os_group.OSApplicationInfoReadRequest, format="sx")
    expect(told == (OS, 2), "format sx is answered with %s" % (told,))
    states = channel.images()
    expect_flags(states, "active confirmed")
    expect(states[0].version == "1.0.0", "version %s runs" % states[0].version)
    told = channel.exchange(frame_of(READ, IMAGE, 6, {}))
    slots = [(slot["slot"], slot["size"]) for slot in told["images"][0]["slots"]]
    expect([slot for slot, _ in slots] == [0, 1], "slots %s" % slots)
    # smp_groups.py asks those that Zephyr's MCUmgr has.
    missing = ((3, 0), (63, 0)) if context.tools.has_groups else ((2, 0), (3, 0), (8, 0), (9, 0), (63, 0))
    for group, command in ((OS, 99), (IMAGE, 2), (IMAGE, 3), (IMAGE, 4), *missing):
        for version in (V1, V2):
            told = channel.exchange(frame_of(READ, group, command, {}, version))
            expect(told == NOT_SUPPORTED, "group %u, command %u: %s" % (group, command, told))
    phone.link.close()
    context.notes.append("'%s'" % output)


# ---- updates

@scenario((23,), (185,), (247,), (498,))
def smp_update(context, mtu):
    """Upload with three chunks under way in frames of `buf_size`, test, reset; installed, and confirmed."""
    context.device.start()
    phone = update(context, "small-2.0.0" if mtu == 23 else "medium-2.3.4", mtu=mtu)
    expect(phone.link.mtu == mtu, "the device made it MTU %u" % phone.link.mtu)
    expect(phone.repeated == 0, "%u chunks were sent more than once" % phone.repeated)


@scenario()
def smp_demo_image(context):
    """475,384 bytes, the size of the case."""
    context.device.start()
    update(context, "demo-2.0.0")


@scenario()
def smp_one_chunk_at_a_time(context):
    """As smpclient does; without a SHA-256 there is no `match`."""
    context.device.start()
    update(context, "odd-2.0.0", window=1, sha=False)


@scenario()
def smp_confirm_only(context):
    """The mode in which an image is confirmed before it has run: it is installed for good, but for a stranger. It can test it."""
    context.device.start()
    if context.tools.strangers_make_permanent:
        update(context, "small-2.0.0", confirm=True)
        return
    phone = phone_with(context, "small-2.0.0")
    channel = phone.connect()
    phone.upload()
    told = refusal(channel.set_state, phone.digest, True)
    expect(told == CONFIRMATION_DENIED, "a stranger installs for good: %s" % (told,))
    expect_flags(channel.images(), "active confirmed", "")
    context.device.expect_nothing_staged()
    finish(context, phone, "small-2.0.0")


@scenario()
def smp_two_updates_in_a_row(context):
    context.device.start()
    update(context, "small-2.0.0")
    update(context, "small-3.0.0")


@scenario()
def smp_and_secure_dfu_in_turns(context):
    """Each protocol replaces what the other one left."""
    context.device.start()
    context.update("small-2.0.0")
    update(context, "medium-2.3.4")
    context.update("small-3.0.0")


@scenario()
def smp_without_confirmation(context):
    """The image runs on trial; nobody confirms it, and the next reset brings the old one back."""
    if not context.tools.client_confirms:
        raise Skipped("the application confirms its image by itself")
    context.device.start()
    phone = phone_with(context, "small-2.0.0")
    channel = phone.connect()
    phone.upload()
    old = channel.images()[0].hash
    channel.set_state(phone.digest)
    reset(context, phone)
    context.device.reset_and_boot("2.0.0", "test")
    channel = phone.connect()
    states = channel.images()
    expect_flags(states, "active", "confirmed")
    expect((states[0].hash, states[1].hash) == (phone.digest, old), "other images are in the slots")
    told = refusal(channel.set_state, phone.digest)
    expect(told == TEST_OF_ACTIVE, "test of the running image: %s" % (told,))
    told = refusal(channel.set_state, old)
    expect(told == ALREADY_PENDING, "test of the image that comes back anyway: %s" % (told,))
    told = refusal(phone_with_link(phone, image_of("small-3.0.0")).upload)
    expect(told == NO_FREE_SLOT, "an upload over the image to go back to: %s" % (told,))
    told = refusal(channel.erase)
    expect(told == NO_FREE_SLOT, "erasing the image to go back to: %s" % (told,))
    restart(context, phone)
    context.device.reset_and_boot("1.0.0", "confirmed")
    states = look(context)
    expect(states[0].hash == old, "version %s is back" % states[0].version)
    expect_flags({0: states[0]}, "active confirmed")
    update(context, "small-2.0.0")


def phone_with_link(phone, image):
    """The same phone with another image."""
    other = SmpPhone(phone.central, image, phone.mtu, phone.window)
    other.link, other.channel, other.buf_size = phone.link, phone.channel, phone.buf_size
    return other


# ---- interrupted

@scenario((23,), (498,))
def smp_disconnected_half_way(context, mtu):
    """The phone walks away with chunks under way, and comes back: the same SHA-256 goes on behind the last chunk that was taken."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", mtu=mtu)
    phone.connect()
    held = phone.upload(stop_at=len(phone.image) // 2)
    phone.link.close()
    again = phone_with(context, "medium-2.3.4", mtu=mtu)
    again.connect()
    again.upload()
    expect(again.resumed_at is not None and again.resumed_at >= held, "resumed at %s, %u bytes were answered for" % (again.resumed_at, held))
    context.notes.append("resumed at %u of %u" % (again.resumed_at, len(again.image)))
    finish(context, again, "medium-2.3.4")


@scenario()
def smp_disconnected_in_a_frame(context):
    """Half a chunk is no chunk: the next phone's request is answered, and the upload goes on before it."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", mtu=247, window=1)
    channel = phone.connect()
    held = phone.upload(stop_at=10_000)
    frame = chunk(phone.image, held, phone.buf_size, 200).BYTES
    channel.send(frame[:1000])
    time.sleep(0.1)
    phone.link.close()
    channel = phone.connect()
    channel.echo()
    phone.upload()
    expect(phone.resumed_at == held, "resumed at %s of %u" % (phone.resumed_at, held))
    finish(context, phone, "medium-2.3.4")


@scenario()
def smp_power_cut_half_way(context):
    """The device dies and starts again on the same flash: by its journal it goes on at the last whole sector."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    phone.connect()
    held = phone.upload(stop_at=len(phone.image) // 2)
    context.device.power_cut()
    context.device.start()
    resumes(context, held)


@scenario()
def smp_reset_half_way(context):
    """The phone itself resets the device in the middle: nothing is staged, and the upload goes on. A stranger is refused."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", window=1)
    phone.connect()
    held = phone.upload(stop_at=len(phone.image) // 2)
    restart(context, phone)
    context.device.wait_for_reset()
    if context.device.is_a_host:
        context.device.expect_nothing_staged()
        context.device.start()
    resumes(context, held)


@scenario(("cut",), ("reset",))
def smp_stopped_before_the_first_sector(context, how):
    """The device has taken a chunk and committed nothing when it dies: the same file starts again, and again."""
    context.device.start()
    for _ in range(2):
        phone = phone_with(context, "medium-2.3.4", window=1)
        phone.connect()
        held = phone.upload(stop_at=1)
        expect(0 < held < OBJECT_SIZE, "one chunk is %u bytes" % held)
        if how == "cut":
            context.device.power_cut()
        else:
            restart(context, phone)
            context.device.wait_for_reset()
        if context.device.is_off:
            context.device.start()
    update(context, "medium-2.3.4")


def resumes(context, held):
    again = phone_with(context, "medium-2.3.4")
    again.connect()
    again.upload()
    sectors = held // OBJECT_SIZE * OBJECT_SIZE
    expect(again.resumed_at is not None and again.resumed_at >= sectors > 0,
           "resumed at %s, %u bytes were in whole sectors" % (again.resumed_at, sectors))
    context.notes.append("resumed at %u of %u" % (again.resumed_at, len(again.image)))
    finish(context, again, "medium-2.3.4")


@scenario()
def smp_another_image_after_a_break(context):
    """Another SHA-256 starts over, and so does none."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    phone.connect()
    phone.upload(stop_at=20_000)
    phone.link.close()
    nameless = phone_with(context, "medium-2.3.4", sha=False)
    nameless.connect()
    nameless.upload(stop_at=20_000)
    expect(nameless.resumed_at is None, "an upload without a name resumed at %s" % nameless.resumed_at)
    nameless.link.close()
    phone = update(context, "small-2.0.0")
    expect(phone.resumed_at is None, "resumed at %s with another image" % phone.resumed_at)


@scenario()
def smp_same_file_again(context):
    """The last answer may be lost: the same file again is answered with its length, also after a reset, and nothing is written."""
    context.device.start()
    phone = phone_with(context, "small-2.0.0")
    phone.connect()
    phone.upload()
    for cut in (False, True):
        phone.link.close()
        if cut:
            context.device.power_cut()
            context.device.start()
        phone = phone_with(context, "small-2.0.0")
        phone.connect()
        phone.upload()
        expect((phone.resumed_at, phone.sent) == (len(phone.image), 1), "resumed at %s with %u chunks" % (phone.resumed_at, phone.sent))
    finish(context, phone, "small-2.0.0")


@scenario()
def smp_digest_that_failed(context):
    """The bytes are not those of the announced SHA-256 (`match` is false): that upload is over, and the same name starts again."""
    context.device.start()
    wrong = hashlib.sha256(b"another file").digest()
    for _ in range(2):
        phone = phone_with(context, "small-2.0.0", sha=wrong)
        phone.connect()
        phone.upload()
        expect(phone.resumed_at is None, "resumed at %s of what did not match" % phone.resumed_at)
        phone.link.close()
    context.device.expect_nothing_staged()
    update(context, "small-2.0.0")


# ---- more than the device can hold

@scenario((23,), (498,))
def smp_window_larger_than_the_buffers(context, mtu):
    """25 chunks under way, as the app's settings allow: what finds no room is dropped whole, and the phone sends it again."""
    context.device.start()
    phone = update(context, "medium-2.3.4", mtu=mtu, window=25)
    # With small packets the link is slower than any flash.
    expect(phone.unanswered > 0 or mtu == 23 or not context.tools.has_slow_flash, "the device kept up: nothing was dropped")


@scenario((20,), (182,), (244,), (495,))
def smp_frames_of_the_largest_size(context, fragment):
    """A frame of just `buf_size` is taken in fragments of any size; one byte more, or 65535 of them, and the next one is taken."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", window=1)
    phone.connect()
    channel = phone.channel
    channel.fragment_size = fragment
    frame = chunk(phone.image, 0, phone.buf_size, 1)
    expect(len(frame.BYTES) == phone.buf_size, "a frame of %u bytes" % len(frame.BYTES))
    channel.send(frame.BYTES)
    expect(check(frame, channel.receive()).off == len(frame.data), "the largest frame was not taken whole")
    for longer in (chunk(phone.image, len(frame.data), phone.buf_size + 1, 2).BYTES,
                   frame_of(WRITE, OS, 0, b"\xa1" + bytes(3000), length=0xFFFF)):
        channel.send(longer)
        # A request in one fragment is taken at once; of more of them the device knows after two seconds that they begin a frame.
        channel.silent(0.2 if fragment > 20 or len(longer) == phone.buf_size + 1 else PAUSE_SECONDS)
        channel.echo()
    told = channel.exchange(frame_of(WRITE, OS, 0, {"d": "x" * 2000}))
    expect(told == {"rc": 7}, "an echo longer than an answer: %s" % told)
    phone.upload()
    phone.link.close()
    context.device.expect_nothing_staged()


# ---- nonsense

@scenario()
def smp_garbage(context):
    """Frames that are none: dropped, or answered with an error; the next echo comes back each time, and an update after all of them."""
    context.device.start()
    phone = phone_with(context, "small-2.0.0", mtu=247)
    channel = phone.connect()
    dropped = [b"", b"\x0a", bytes(7), b"\xff" * 7, bytes(244), b"\xff" * 244,
               frame_of(WRITE, OS, 0, {"d": "hi"}) + b"\0",                         # longer than it says
               frame_of(WRITE, OS, 0, {"d": "hi"}, length=5),
               frame_of(WRITE, OS, 0, {"d": "hi"}, length=300)]                     # its end never comes
    for garbage in dropped:
        channel.link.raw_write(channel.link.smp, garbage)
        if garbage == bytes(244):
            # Eight zeros are a request (os, echo) of no bytes, and what follows is too much for it.
            channel.silent(0.2)
        drain(channel)
        channel.echo()
    for version in (V1, V2):
        for body in (b"", b"\xa1", b"\xa1\x61", b"\xa1\x61\x64\x62\x68", b"\x80", b"\x00", b"\xff", b"\xa1\x00\x00", b"\x9f" * 100,
                     b"\xbb" + b"\xff" * 8, b"\xa1\x61\x64\x7b\x7f" + b"\xff" * 7, b"\xa1\x61\x64\x01"):
            told = channel.exchange(frame_of(WRITE, OS, 0, body, version))
            expect(told == {"rc": 3}, "%s is answered with %s" % (body.hex(" "), told))
    for first in (0x10, 0x1A):                                                      # versions 3 and 4
        frame = bytes([first]) + frame_of(READ, OS, 6, {})[1:]
        channel.send(frame)
        answer = channel.receive()
        expect(answer is not None and cbor2.loads(answer[8:]) == {"rc": 13}, "version field %u: %s" % (first >> 3, answer))
    for op in (1, 3, 4, 5, 6, 7):
        channel.send(frame_of(op, OS, 6, {}))
        answer = channel.receive(0.3)
        expect(answer is None or (answer[0] & 7, cbor2.loads(answer[8:])) == (3, NOT_SUPPORTED), "op %u: %s" % (op, answer))
    for sequence in (0, 254, 255):
        told = channel.exchange(b"\x0a\xff" + frame_of(WRITE, OS, 0, {"d": "hi"}, sequence=sequence)[2:])
        expect(told == {"r": "hi"}, "flags: %s" % told)
    for fields, error in (
            ({"data": bytes(40), "len": 40}, 20), ({"off": 0, "data": phone.image[:31], "len": 40}, 22),
            ({"off": 0, "data": phone.image[:40]}, 21), ({"off": 0, "data": bytes(40), "len": 40}, 23),
            ({"off": 0, "data": phone.image[:40], "len": 40, "sha": bytes(33)}, 24),
            ({"off": 0, "data": phone.image[:40], "len": 1 << 24}, 30), ({"off": 0, "data": phone.image[:40], "len": 1 << 40}, 30),
            ({"off": 0, "data": phone.image[:40], "len": 39}, 31)):
        told = channel.exchange(frame_of(WRITE, IMAGE, 1, fields))
        expect(told == {"err": {"group": IMAGE, "rc": error}}, "%s: %s" % ({**fields, "data": 0}, told))
    for fields in ({"off": "0", "data": b""}, {"off": -1, "data": b""}, {"off": 0.0, "data": b""}, {"off": 0, "data": "text"}):
        told = channel.exchange(frame_of(WRITE, IMAGE, 1, fields))
        expect(told == {"rc": 3}, "%s: %s" % (fields, told))
    for offset in (1, 5000, 1 << 32, (1 << 64) - 1):
        told = channel.exchange(frame_of(WRITE, IMAGE, 1, {"off": offset, "data": b"\x55" * 100}))
        expect(told == {"off": 0}, "a piece at %u of nothing: %s" % (offset, told))
    context.device.expect_nothing_staged()
    phone.upload()
    finish(context, phone, "small-2.0.0")


def drain(channel):
    """Answers to garbage: at most one, and an error."""
    answer = channel.receive(0.2)
    if answer is not None:
        expect("rc" in cbor2.loads(answer[HEADER.size:]), "garbage was answered with " + answer.hex(" "))
        channel.silent(0.2)


@scenario()
def smp_gives_up_in_a_frame(context):
    """Chunks that end in the middle, and no pause: the next whole request is answered at once, and larger ones soon."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", mtu=185)
    channel = phone.connect()
    held = phone.upload(stop_at=10_000)
    while channel.receive(0.3) is not None:
        pass
    for _ in range(3):
        channel.send(chunk(phone.image, held, phone.buf_size, 1).BYTES[:1000])
        asked = time.monotonic()
        channel.echo()
        expect(time.monotonic() - asked < 2, "the echo took %.1f s" % (time.monotonic() - asked))
    phone.upload()
    finish(context, phone, "medium-2.3.4")


# ---- refused

@scenario()
def smp_image_of_another_owner(context):
    """The upload is whole and matches; test and confirm are refused, nothing is staged or listed, and a good image goes through."""
    context.device.start()
    phone = phone_with(context, "wrong-image-key")
    channel = phone.connect()
    for confirm in (False, True) if context.tools.strangers_make_permanent else (False,):
        phone.upload()
        told = refusal(channel.set_state, hashlib.sha256(phone.image).digest())
        expect(told == (IMAGE, 8), "the SHA-256 of the file: %s" % (told,))
        expect_flags(channel.images(), "active confirmed", "")
        told = refusal(channel.set_state, phone.digest, confirm)
        expect(told == INVALID_TLV, "an image with a wrong signature: %s" % (told,))
        # As long as it is listed, no client would send another one.
        expect_flags(channel.images(), "active confirmed")
    context.device.expect_nothing_staged()
    good = phone_with_link(phone, image_of("small-2.0.0"))
    good.upload()
    finish(context, good, "small-2.0.0")


@scenario()
def smp_erase(context):
    """Also in the middle of an upload, which starts over then; never what is pending."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    channel = phone.connect()
    channel.erase()
    phone.window = 1
    phone.upload(stop_at=20_000)
    channel.erase(slot=1)
    told = channel.exchange(frame_of(WRITE, IMAGE, 1, {"off": 20_000, "data": b"\x55" * 100}))
    expect(told == {"off": 0}, "a piece after the erase: %s" % told)
    expect_flags(channel.images(), "active confirmed")
    for slot, error in ((0, NO_FREE_SLOT), (7, (IMAGE, 14))):
        told = refusal(channel.erase, slot)
        expect(told == error, "erasing slot %u: %s" % (slot, told))
    phone = phone_with_link(phone, phone.image)
    phone.upload()
    expect(phone.resumed_at is None, "resumed at %s of what was erased" % phone.resumed_at)
    channel.set_state(phone.digest)
    told = refusal(channel.erase)
    expect(told == NO_FREE_SLOT, "erasing a pending image: %s" % (told,))
    told = refusal(phone_with_link(phone, image_of("small-2.0.0")).upload)
    expect(told == NO_FREE_SLOT, "an upload over a pending image: %s" % (told,))
    told = refusal(channel.set_state, confirm=True)
    expect(told == ALREADY_PENDING, "confirming the running image: %s" % (told,))
    finish(context, phone, "medium-2.3.4")


@scenario()
def smp_takes_over_and_is_taken_over(context):
    """One slot, two protocols: the later one is refused while the first is fed, and takes over when that went or rests for ten seconds."""
    context.device.start()
    # Secure DFU has the slot.
    dfu = context.phone("medium-2.3.4")
    link, _, offset = send_until(context, dfu, 2, 0)
    phone = phone_with(context, "small-2.0.0")
    phone.link, phone.channel, phone.buf_size = link, SmpChannel(link), 2475
    told = refusal(phone.upload)
    expect(told == NO_FREE_SLOT, "an upload in a Secure DFU transfer: %s" % (told,))
    told = refusal(phone.channel.erase)
    expect(told == NO_FREE_SLOT, "erasing the slot of a Secure DFU transfer: %s" % (told,))
    expect_flags(phone.channel.images(), "active confirmed")
    expect(link.select(DATA)[1] == offset, "the Secure DFU transfer is at %u" % link.select(DATA)[1])
    link.close()
    # Its link is gone: SMP may have it.
    channel = phone.connect()
    phone.window = 1
    held = phone.upload(stop_at=5_000)
    phone.link.subscribe_now()
    try:
        phone.link.request(CREATE, COMMAND, struct.pack("<I", len(dfu.init_packet)))
        raise Failure("a Secure DFU transfer begins in an SMP upload")
    except Refused as refused:
        expect(refused.result == 8, "a Secure DFU transfer in an SMP upload: %s" % refused)
    expect(phone.link.select(DATA)[1:] == (0, 0), "Secure DFU still knows of its transfer")
    told = channel.exchange(frame_of(WRITE, IMAGE, 1, {"off": held + 1, "data": b"\x55"}))
    expect(told == {"off": held}, "the upload is at %s" % told)
    # It rests: Secure DFU may have it, on the same link.
    time.sleep(TAKEOVER_SECONDS + 1)
    phone.link.request(CREATE, COMMAND, struct.pack("<I", len(dfu.init_packet)))
    told = channel.exchange(frame_of(WRITE, IMAGE, 1, {"off": held, "data": b"\x55"}))
    expect(told == {"off": 0}, "the upload that was taken over is at %s" % told)
    phone.link.close()
    context.update("medium-2.3.4")


@scenario()
def smp_chunks_out_of_order(context):
    """Stale, early and repeated chunks are answered with the offset that is wanted, each, in order, and change nothing."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", window=1)
    channel = phone.connect()
    held = phone.upload(stop_at=6_000)
    messages = [chunk(phone.image, at, phone.buf_size, channel.next_sequence()) for at in (2_000, held + 3_000, held - 1)]
    right = chunk(phone.image, held, phone.buf_size, channel.next_sequence())
    after = held + len(right.data)
    for message in (*messages, right, messages[0]):
        channel.send(message.BYTES)
    for message, wanted in zip((*messages, right, messages[0]), (held, held, held, after, after)):
        answer = channel.receive(CHUNK_TIMEOUT)
        expect(answer is not None, "the chunk at %u is not answered" % message.off)
        expect(check(message, answer).off == wanted, "the chunk at %u: %s" % (message.off, answer.hex(" ")))
    phone.upload()
    expect(phone.resumed_at == after, "resumed at %s" % phone.resumed_at)
    last = chunk(phone.image, len(phone.image) - 1_000, phone.buf_size, channel.next_sequence())
    channel.send(last.BYTES)
    told = check(last, channel.receive())
    expect((told.off, told.match) == (len(phone.image), True), "the last chunk once more: %s" % told)
    finish(context, phone, "medium-2.3.4")


@scenario(*[(kind,) for kind in made.KINDS])
def smp_refuses_kind(context, kind):
    """An image that its first 32 bytes say cannot be started: the first chunk is refused, and nothing is erased for it."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    phone.connect()
    held = phone.upload(stop_at=10_000)
    while phone.channel.receive(0.3) is not None:
        pass
    other = phone_with_link(phone, made.with_flag(phone.image, kind))
    group, code = refusal(other.upload)
    expect((group, other.sent) == (IMAGE, 1), "error %s/%u behind chunk %u" % (group, code, other.sent))
    expect(context.device.said(kind), "the device does not say '%s'" % kind)
    context.notes.append("error %u" % code)
    phone.upload()
    expect(phone.resumed_at >= held, "the upload that was under way resumed at %s" % phone.resumed_at)
    finish(context, phone, "medium-2.3.4")


@scenario((0x1000,), (0xF5000,), (0x01000000,))
def smp_refuses_reset_vector(context, address):
    """A program for another place (a network core's, say) is refused at the first chunk, one for this slot is taken."""
    if not context.device.checks_address:
        raise Skipped("the device does not look at the reset vector")
    start = context.device.primary_address + 0x300
    factory, right, wrong = (made.with_vectors(context.tools, context.device.folder, version, reset)
                             for version, reset in (("1.0.0", start), ("2.0.0", start), ("2.0.0", address)))
    context.device.use_factory_image(factory)
    context.device.start()
    phone = SmpPhone(context.central, wrong)
    phone.connect()
    group, code = refusal(phone.upload)
    expect((group, phone.sent) == (IMAGE, 1), "error %s/%u behind chunk %u" % (group, code, phone.sent))
    expect(context.device.said("reset vector"), "the device does not say 'reset vector'")
    phone = phone_with_link(phone, right)
    phone.upload()
    finish(context, phone, "small-2.0.0")


# ---- which image

@scenario()
def smp_image_numbers(context):
    """1 is what some tools send to a device with one image, and goes on working; from 2 on nothing is erased for it."""
    context.device.start()
    phone = phone_with(context, "medium-2.3.4", number=1)
    channel = phone.connect()
    held = phone.upload(stop_at=20_000)
    while channel.receive(0.3) is not None:
        pass
    before = context.device.secondary()
    for number in (2, 3, 7, 255, 1 << 16, 1 << 32):
        for name in ("small-2.0.0", "medium-2.3.4"):
            other = phone_with_link(phone, image_of(name))
            told = channel.exchange(frame_of(WRITE, IMAGE, 1, {"image": number, "off": 0, "len": len(other.image),
                                                               "sha": hashlib.sha256(other.image).digest(), "data": other.image[:400]}))
            expect("err" in told or "rc" in told, "a piece of image %u: %s" % (number, told))
    expect(context.device.secondary() == before, "something was written for a refused image")
    phone.upload()
    expect(phone.resumed_at is not None and phone.resumed_at >= held, "the upload of image 1 resumed at %s" % phone.resumed_at)
    finish(context, phone, "medium-2.3.4")


@scenario()
def smp_confirm_with_an_empty_hash(context):
    """It means the running image, as in Zephyr; a test of no image is refused."""
    context.device.start()
    phone = phone_with(context, "small-2.0.0")
    channel = phone.connect()

    def confirm_running():
        told = channel.exchange(frame_of(WRITE, IMAGE, 0, {"hash": b"", "confirm": True}))
        expect("images" in told, "confirm with an empty hash: %s" % told)
        return [(image["slot"], image["active"], image["confirmed"]) for image in told["images"]]

    expect(confirm_running() == [(0, True, True)], "the running image is not confirmed")
    phone.upload()
    told = channel.exchange(frame_of(WRITE, IMAGE, 0, {"hash": b""}))
    expect("err" in told or "rc" in told, "a test of no image: %s" % told)
    context.device.expect_nothing_staged()
    expect(confirm_running()[0] == (0, True, True), "the running image is not confirmed")
    context.device.expect_nothing_staged()
    if not context.tools.client_confirms:
        finish(context, phone, "small-2.0.0")
        return
    channel.set_state(phone.digest)
    reset(context, phone)
    context.device.reset_and_boot("2.0.0", "test")
    channel = phone.connect()
    expect_flags(channel.images(), "active", "confirmed")
    expect(confirm_running()[0] == (0, True, True), "the image on trial is not confirmed")
    restart(context, phone)
    context.device.reset_and_boot("2.0.0", "confirmed")


@scenario()
def smp_padded_factory_image(context):
    """Made with `imgtool --pad`: magic, and neither image_ok nor copy_done. Confirm really confirms it, and an update goes through."""
    if not context.device.is_a_host:
        raise Skipped("bledfu serve makes its own factory image")
    context.device.pad_primary()
    context.device.start()
    phone = phone_with(context, "small-2.0.0")
    channel = phone.connect()
    channel.set_state(confirm=True)
    expect_flags(channel.images(), "active confirmed")
    channel.erase()
    phone.upload()
    finish(context, phone, "small-2.0.0")
