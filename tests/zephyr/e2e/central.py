# SPDX-License-Identifier: Apache-2.0
"""The phone: an unmodified Bumble host on the virtual controller, run in a thread so that scenarios read as a sequence.

`BluetoothLink` has the interface of `gatt.Link` in tests/clients, so the phones of that file (Android, iOS, Web
Bluetooth) send their updates through real GATT here.
"""

import asyncio
import concurrent.futures
import queue
import struct
import threading
import time

from bumble import att, core, hci
from bumble.device import ConnectionParametersPreferences, Device, DeviceConfiguration, Peer
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink
from gatt import Disconnected, Phone, Refused, Wrong
from radio import Radio
from wire_trace import ABORT, CHECKSUM, CREATE, DATA, EXECUTE, SELECT, WRITE, Trace

SERVICE = core.UUID.from_16_bits(0xFE59)
CONTROL_POINT = core.UUID("8EC90001-F315-4F60-9FB8-838830DAEA50")
PACKET = core.UUID("8EC90002-F315-4F60-9FB8-838830DAEA50")
CCCD = core.UUID.from_16_bits(0x2902)
SMP_SERVICE = core.UUID("8D53DC1D-1DB7-4CD3-868B-8A527460AA84")
SMP = core.UUID("DA2E7828-FBCE-4E01-AE9E-261174997C48")

ANSWER_TIMEOUT = 20.0
STEP_TIMEOUT = 15.0
MTU_DEFAULT = 23


class Central:
    """A room with a phone in it. Every method may be called from any one thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.radio = self.device = None
        self.link_kind = BluetoothLink
        self.run(self._start())

    def run(self, coroutine, timeout=STEP_TIMEOUT):
        """Runs a coroutine in the room's loop and returns what it returns."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise Wrong("nothing happened for %u s" % timeout) from None
        except concurrent.futures.CancelledError:
            raise Disconnected("the link went down meanwhile") from None

    async def _start(self):
        self.radio = Radio()
        await self.radio.open()
        # DeviceConfiguration leaves its defaults to the class: no key store, no advertising.
        config = DeviceConfiguration(name="phone", address=hci.Address("C0:00:00:00:00:01"))
        self.device = Device(config=config, host=Host(self.radio.phone, AsyncPipeSink(self.radio.phone)))
        await self.device.power_on()

    def close(self):
        try:
            self.run(self.radio.close())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(5)

    # ---- the room

    def wait_for_host(self, count, timeout=20):
        """Until the device's host came for the `count`-th time."""
        return self.run(self.radio.wait(lambda: self.radio.connections >= count, timeout), timeout + 5)

    def wait_until_reset(self, count, timeout=20):
        """Until the host that came as the `count`-th has gone."""
        return self.run(self.radio.wait(lambda: self.radio.connections > count or not self.radio.occupied, timeout), timeout + 5)

    def advertised(self):
        """What the device gave its controller: advertising data and scan response."""
        advertisers = [self.radio.device.le_legacy_advertiser, *self.radio.device.advertising_sets.values()]
        for advertiser in advertisers:
            if advertiser.enabled:
                data = getattr(advertiser, "advertising_data", getattr(advertiser, "data", b""))
                return bytes(data), bytes(advertiser.scan_response_data)
        return None

    # ---- the phone

    def find(self, timeout=20):
        """Scans for the service, as the apps do; the address of the first device that has it in its advertising data."""
        return self.run(self._find(timeout), timeout + 5)

    async def _find(self, timeout):
        found = asyncio.get_running_loop().create_future()

        def on_advertisement(advertisement):
            uuids = [uuid for kind in (core.AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS,
                                       core.AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS)
                     for uuid in (advertisement.data.get(kind) or [])]
            if SERVICE in uuids and not found.done():
                found.set_result(advertisement.address)

        self.device.on("advertisement", on_advertisement)
        await self.device.start_scanning(active=True)
        try:
            return await asyncio.wait_for(found, timeout)
        except asyncio.TimeoutError:
            raise Wrong("no device advertises FE59") from None
        finally:
            await self.device.stop_scanning()
            self.device.remove_listener("advertisement", on_advertisement)

    def connect(self, mtu=247, interval_ms=15, fast=True, subscribe=True, trace=None):
        """Scan, connect, exchange the MTU (not at all for 23), discover, subscribe: what an app does before its first request.

        `fast`: the phone asks for long packets and the 2M PHY, as newer ones do by themselves.
        """
        link = self.link_kind(self, trace or Trace())
        address = self.find()
        self.run(link.open(address, mtu, interval_ms, fast))
        if subscribe:
            self.run(link.subscribe())
        return link


class BluetoothLink:
    """One connection. The methods of `gatt.Link`, and what only Bluetooth has."""

    def __init__(self, central, trace):
        self.central = central
        self.trace = trace
        self.answered_at = 0.0
        self.reason = None                      # HCI reason once the link is down
        self.mtu = MTU_DEFAULT
        self.service = self.control_point = self.packets = self.smp = None
        self.services = []
        self.late_responses = 0                 # notifications that overtook the response to their write
        self._events = queue.Queue()
        self.listeners = [self._events]         # who is told of the disconnection
        self._down = threading.Event()

    # ---- in the room's loop

    async def open(self, address, mtu, interval_ms, fast):
        preferences = ConnectionParametersPreferences(connection_interval_min=interval_ms, connection_interval_max=interval_ms)
        self.connection = await self.central.device.connect(
            address, connection_parameters_preferences={hci.Phy.LE_1M: preferences}, timeout=10)
        self.connection.on("disconnection", self._on_disconnection)
        self._watch_order()
        await self.before_discovery()
        if fast:
            await self.connection.set_data_length(251, 2120)
            await self.connection.set_phy([hci.Phy.LE_2M], [hci.Phy.LE_2M])
        peer = Peer(self.connection)
        if mtu != MTU_DEFAULT:
            self.mtu = await peer.request_mtu(mtu)
        self.services = await peer.discover_services()
        for service in self.services:
            for characteristic in await service.discover_characteristics():
                if service.uuid == SERVICE and characteristic.uuid == CONTROL_POINT:
                    self.control_point = characteristic
                if service.uuid == SERVICE and characteristic.uuid == PACKET:
                    self.packets = characteristic
                if service.uuid == SMP_SERVICE and characteristic.uuid == SMP:
                    self.smp = characteristic
            if service.uuid == SERVICE:
                self.service = service
        if not self.control_point or not self.packets:
            raise Wrong("a characteristic is missing in the service")
        for characteristic in (self.control_point, self.smp):
            if characteristic:
                await peer.discover_descriptors(characteristic)

    async def before_discovery(self):
        """For phones that have more to do before they look for services."""

    def _watch_order(self):
        """Notes answers that come before the response to the write they answer."""
        client = self.connection.gatt_client
        original = client.on_gatt_pdu

        def on_gatt_pdu(pdu):
            waiting = client.pending_response
            if pdu.op_code == att.Opcode.ATT_HANDLE_VALUE_NOTIFICATION and waiting is not None and not waiting.done():
                self.late_responses += 1
            original(pdu)

        client.on_gatt_pdu = on_gatt_pdu

    async def subscribe(self):
        await self.control_point.subscribe(self._on_notification)

    async def _write(self, characteristic, data, with_response):
        if self.reason is not None:
            raise Disconnected("closed, reason 0x%02x" % self.reason)
        await self.connection.cancel_on_disconnection(
            self.connection.gatt_client.write_value(characteristic, data, with_response))

    def _on_notification(self, value):
        self._events.put((time.monotonic(), bytes(value)))

    def _on_disconnection(self, reason):
        self.reason = reason
        for listener in self.listeners:
            listener.put((time.monotonic(), None))
        self._down.set()

    # ---- for scenarios

    def write(self, characteristic, data, with_response):
        """One write; the ATT error code, or None if it was taken."""
        try:
            self.central.run(self._write(characteristic, data, with_response))
        except att.ATT_Error as error:
            return error.error_code
        except core.BaseBumbleError as error:
            raise Disconnected("the link is down, reason %s" % self.reason) from error
        return None

    def read_cccd(self, characteristic=None):
        descriptor = (characteristic or self.control_point).get_descriptor(CCCD)
        return self.central.run(self.connection.gatt_client.read_value(descriptor))

    def subscribe_now(self):
        self.central.run(self.subscribe())

    def parameters(self):
        """Interval in ms, bytes a link layer packet may carry, and whether the 2M PHY is used."""
        octets, phy = self.central.radio.phone.link_parameters()
        return self.connection.parameters.connection_interval, octets, phy == hci.Phy.LE_2M

    def close(self):
        """Disconnects, if the device has not."""
        if not self._down.is_set():
            try:
                self.central.run(self.connection.disconnect())
            except (core.BaseBumbleError, Disconnected, Wrong):
                pass
        self._down.wait(STEP_TIMEOUT)

    def notification(self, timeout=ANSWER_TIMEOUT):
        try:
            moment, value = self._events.get(timeout=timeout)
        except queue.Empty:
            raise Wrong("no answer in %g s" % timeout) from None
        if value is None:
            self._events.put((moment, None))
            raise Disconnected("closed, reason 0x%02x" % self.reason)
        self.answered_at = moment
        self.trace.received(value)
        return value

    def silent(self, seconds):
        """Nothing comes for that long."""
        try:
            _, value = self._events.get(timeout=seconds)
        except queue.Empty:
            return
        raise Wrong("unexpected: %s" % (value.hex(" ") if value else "disconnection"))

    def request(self, *parts):
        data = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
        self.trace.sent(data)
        error = self.write(self.control_point, data, True)
        if error is not None:
            raise Wrong("control point write refused, ATT error 0x%02x" % error)
        answer = self.notification()
        if answer[:2] != bytes([0x60, data[0]]):
            raise Wrong("%s answers %s" % (answer.hex(" "), data.hex(" ")))
        if answer[2] != 1:
            raise Refused(answer)
        return answer[3:]

    def packet(self, data):
        self.trace.sent(bytes([WRITE]) + data)
        self.raw_packet(data)

    def raw_packet(self, data):
        self.raw_write(self.packets, data)

    def raw_write(self, characteristic, data):
        """A Write Command, like a phone with receipts off: on to the next as soon as the host has taken this one."""
        if self._down.is_set():
            raise Disconnected("closed, reason 0x%02x" % self.reason)
        client = self.connection.gatt_client
        pdu = bytes(att.ATT_Write_Command(attribute_handle=characteristic.handle, attribute_value=data))
        self.central.loop.call_soon_threadsafe(self._send, client, pdu)

    def _send(self, client, pdu):
        if not self._down.is_set():
            client.send_gatt_pdu(pdu)

    def checksum(self):
        return struct.unpack("<II", self.request(CHECKSUM))

    def select(self, kind):
        return struct.unpack("<III", self.request(SELECT, kind))

    def abort(self):
        self.trace.sent(bytes([ABORT]))
        self.write(self.control_point, bytes([ABORT]), True)

    def wait_for_disconnection_after(self, answer):
        """Seconds from this answer to the end of the link; nothing else may come between."""
        self.answered_at = self.answered_at or time.monotonic()
        try:
            return self.wait_for_disconnection()
        except Wrong as error:
            raise Wrong("after %s: %s" % (answer.hex(" "), error)) from None

    def wait_for_disconnection(self):
        """Seconds from the last answer to the end of the link."""
        try:
            value = self.notification()
        except Disconnected:
            moment, _ = self._events.get(timeout=0)
            return moment - self.answered_at
        raise Wrong("after the last answer came " + value.hex(" "))


class BluetoothPhone(Phone):
    """A phone of tests/clients on Bluetooth."""

    def __init__(self, central, package, style="android", mtu=247, prn=0, on_frame=None):
        super().__init__(None, package, style, prn=prn, on_frame=on_frame)
        self.central, self.mtu = central, mtu
        self.link = None
        self.seconds_of_data = None

    def connect(self):
        return self.use(self.central.connect(self.mtu, trace=self.trace))

    def use(self, link):
        self.link = link
        self.packet_size = self.link.mtu - 3
        if self.style == "ios":
            self.packet_size &= ~3
        if self.style == "web":
            self.packet_size = 20
        return link

    def update(self):
        link = self.connect()
        try:
            self.send_init_packet()
            start = time.monotonic()
            self._send_image(link)
            self.seconds_of_data = time.monotonic() - start
            self.seconds_to_disconnection = link.wait_for_disconnection()
        finally:
            link.close()
        return self.trace

    def rate(self):
        """Image bytes a second, from the first Select to the last answer."""
        return self.trace.data_bytes / self.seconds_of_data

    # ---- the parts of an update, for scenarios that leave the path

    def send_init_packet(self):
        self._send_init_packet(self.link)

    def send_image(self):
        self._send_image(self.link)

    def set_receipts(self):
        self._set_prn(self.link, self.prn)

    def create(self, begin, end):
        self.link.request(CREATE, DATA, struct.pack("<I", end - begin))

    def send_object(self, begin, end, execute=True):
        """Create, the bytes, checksum, Execute."""
        self.create(begin, end)
        self._stream(self.link, self.image[begin:end], begin, self.image)
        self._check(self.link, self.image[:end])
        if execute:
            self.link.request(EXECUTE)

    def packets(self, begin, end):
        """The image's bytes as they go into packets: (index, bytes)."""
        for index, at in enumerate(range(begin, end, self.packet_size)):
            yield index, self.image[at:min(at + self.packet_size, end)]
