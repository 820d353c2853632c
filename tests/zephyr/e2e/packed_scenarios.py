# SPDX-License-Identifier: Apache-2.0
"""Packed updates: a phone sends a few hundred bytes, and the device makes the release of them. doc/small-updates.md has the rules.

Each sends a packed update for another image, which is refused, then the full image over the same connection, then the packed update
again, which is for the image that runs by then.
"""

import scenarios
from buttonless_scenarios import INSUFFICIENT_AUTHENTICATION, INSUFFICIENT_ENCRYPTION, keep_bonds
from central import CCCD, BluetoothLink
from gatt import Disconnected, Refused
from harness import Failure
from releases import SIZE, Releases
from scenarios import CLOSED_BY_PEER, SECONDS_TO_DISCONNECTION, Skipped, expect
from smp_phone import IMAGE, SmpPhone
from smp_scenarios import expect_flags, flags, look, phone_with_link, refusal, reset

# "The running image is newer": the nearest sentence that a phone can show.
ANOTHER_BASE = (IMAGE, 27)
# Of Secure DFU: the version is refused.
VERSION_FAILURE = (0x0B, 0x05)


def scenario(*variants):
    """As `scenarios.scenario`, for devices that take packed updates."""
    def register(function):
        def run(context, *variant):
            if not context.tools.takes_packed:
                raise Skipped("built without CONFIG_BLEDFU_SMALL_UPDATES")
            if function.__name__.startswith(("packed_smp", "bonded")) and not context.tools.has_smp:
                raise Skipped("the device has no SMP service")
            function(context, *variant)
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        scenarios.scenario(*variants)(run)
        return run
    return register


def read(path):
    with open(path, "rb") as file:
        return file.read()


class World:
    """The device runs that release; `packed` makes the third of the second."""

    def __init__(self, context, runs="first"):
        made = Releases(context.device.folder, context.tools.imgtool, context.tools.bledfu, context.device.primary_address)
        self.packed = read(made.diff(made.second, made.third))
        self.first, self.second, self.third = map(read, (made.first, made.second, made.third))
        self.context = context
        context.device.use_factory_image(getattr(self, runs))
        context.device.start()

    def note(self, sent, how):
        self.context.notes.append("%u bytes sent instead of %u: %s" % (sent, len(self.third), how))


def expect_refused_as_another_base(context):
    expect(context.device.said("for another image than the one that runs"), "the log does not say that it is for another image")
    expect(context.device.said("1.1.0 runs"), "the log does not say which image runs")
    context.device.expect_nothing_staged()


# ---- Secure DFU

# small-updates case 36
# small-updates case 45
@scenario()
def packed_secure_dfu(context):
    """Refused by the last Execute for another image; the full image follows over the same link; then the packed update installs."""
    world = World(context)
    phone = context.phone_with(world.packed, version=3)
    link = phone.connect()
    phone.send_init_packet()
    try:
        phone.send_image()
        raise Failure("a packed update for another image was taken")
    except Refused as answer:
        expect(phone.trace.final_execute_sent, "refused before the last Execute: %s" % answer)
        expect((answer.result, answer.extended) == VERSION_FAILURE, "an update for another image: %s" % answer)
    expect_refused_as_another_base(context)
    full = context.phone_with(world.second, version=2)
    full.use(link)
    full.send_init_packet()
    full.send_image()
    seconds = link.wait_for_disconnection()
    expect(link.reason == CLOSED_BY_PEER, "the link ended with reason 0x%02x, not 0x13" % link.reason)
    expect(seconds < SECONDS_TO_DISCONNECTION, "the link was closed %.1f s after the last answer" % seconds)
    context.device.check_update(world.second, "2.1.0")
    phone = context.phone_with(world.packed, version=3)
    phone.update()
    context.finished_as(phone, world.third, "3.1.0")
    expect(phone.trace.data_bytes < SIZE // 20, "%u bytes were sent" % phone.trace.data_bytes)
    world.note(phone.trace.data_bytes, "slowest answer %.0f ms" % (phone.trace.slowest[0] * 1000))


@scenario()
def packed_power_cut_behind_the_last_answer(context):
    """The phone was told success: whatever is cut then, the device ends with the release."""
    world = World(context, runs="second")

    def on_frame(trace):
        if trace.final_execute_answered and not context.device.is_off:
            context.device.power_cut()
    phone = context.phone_with(world.packed, version=3, on_frame=on_frame)
    try:
        phone.update()
    except Disconnected:
        pass
    expect(context.device.is_off, "the last Execute was not answered")
    # Nothing but the device itself goes on.
    context.device.boots_after_cut("3.1.0", world.third)


@scenarios.scenario()
def refuses_packed_without_small_updates(context):
    """Built without them, the device sees by the first 32 bytes that it cannot start that; the full image follows over the same link."""
    if context.tools.takes_packed:
        raise Skipped("built with CONFIG_BLEDFU_SMALL_UPDATES")
    world = World(context, runs="second")
    link = scenarios.refused_in_the_first_object(context, world.packed, "not bootable")
    full = context.phone_with(world.third, version=2)
    full.use(link)
    full.send_init_packet()
    full.send_image()
    link.wait_for_disconnection()
    context.device.check_update(world.third, "3.1.0")


# ---- SMP

# small-updates case 36
# small-updates case 47
@scenario()
def packed_smp(context):
    """The same over SMP, by a stranger that asks for a test; lists show the file that was sent until it is confirmed."""
    world = World(context)
    smp_refusal_then_full_image(context, world)
    phone = SmpPhone(context.central, world.packed)
    phone.connect()
    phone.upload()
    states = phone.channel.images()
    expect_flags(states, "active confirmed", "")
    expect((states[1].version, states[1].hash) == ("3.1.0", phone.digest), "slot 1 is listed as %s" % (states[1],))
    states = phone.channel.set_state(phone.digest)
    expect_flags(states, "active confirmed", "pending")
    expect(states[1].hash == phone.digest, "the answer to the test has another image")
    reset(context, phone)
    digest = SmpPhone(context.central, world.third).digest
    if context.tools.client_confirms:
        context.device.reset_and_boot("3.1.0", "test")
        expect_known_by_its_file(context, phone, digest)
        states = phone.channel.set_state(phone.digest, True)
        expect(states[0].hash == phone.digest and "confirmed" in flags(states[0]), "the answer to confirm: %s" % (states[0],))
        phone.link.close()
    else:
        context.device.check_update(world.third, "3.1.0")
        look(context)
    expect_listed(context, digest)
    world.note(len(world.packed), "tested by a stranger" + (", confirmed by it" if context.tools.client_confirms else ""))


def smp_refusal_then_full_image(context, world):
    """Behind it, the second release runs, confirmed."""
    phone = SmpPhone(context.central, world.packed)
    phone.connect()
    phone.upload()
    told = refusal(phone.channel.set_state, phone.digest)
    expect(told == ANOTHER_BASE, "an update for another image: %s" % (told,))
    expect_refused_as_another_base(context)
    expect_flags(phone.channel.images(), "active confirmed")
    full = phone_with_link(phone, world.second)
    full.upload()
    full.channel.set_state(full.digest)
    reset(context, full)
    context.device.check_update(world.second, "2.1.0")


def expect_known_by_its_file(context, phone, digest):
    """On trial: the phone finds the image by the digest of what it sent."""
    phone.connect()
    states = phone.channel.images()
    told = flags(states[0])
    expect(told == {"bootable", "active"}, "the image on trial is %s" % told)
    expect(states[0].hash == phone.digest != digest, "the image on trial is listed as %s" % (states[0],))


def expect_listed(context, digest):
    """As every fleet must find it: what was sent no longer matters."""
    states = look(context)
    expect(states[0].version == "3.1.0" and states[0].hash == digest, "slot 0 is listed as %s" % (states[0],))
    expect_flags({0: states[0]}, "active confirmed")


# ---- SMP, paired

class PairedLink(BluetoothLink):
    """Encrypts before it does anything else; pairs if it has no key."""

    async def before_discovery(self):
        if await self.central.device.keystore.get(str(self.connection.peer_address)):
            await self.connection.encrypt()
        else:
            await self.connection.pair()


# small-updates case 47
@scenario()
def bonded_packed_test_and_confirm(context):
    """A paired phone tests and confirms, by the digest of what it sent; a stranger may do neither."""
    world = World(context)
    stranger = context.central.connect(498, subscribe=False)
    error = stranger.write(stranger.smp.get_descriptor(CCCD), b"\1\0", True)
    expect(error in (INSUFFICIENT_AUTHENTICATION, INSUFFICIENT_ENCRYPTION), "a stranger subscribes to SMP: ATT error %s" % error)
    stranger.close()
    keep_bonds(context)
    context.central.link_kind = PairedLink
    smp_refusal_then_full_image(context, world)
    phone = SmpPhone(context.central, world.packed)
    phone.connect()
    phone.upload()
    phone.channel.set_state(phone.digest)
    reset(context, phone)
    context.device.reset_and_boot("3.1.0", "test")
    digest = SmpPhone(context.central, world.third).digest
    expect_known_by_its_file(context, phone, digest)
    states = phone.channel.set_state(phone.digest, True)
    expect(states[0].hash == phone.digest and "confirmed" in flags(states[0]), "the answer to confirm: %s" % (states[0],))
    phone.link.close()
    expect_listed(context, digest)
    world.note(len(world.packed), "tested and confirmed over a bond")
