#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Bluetooth peripheral in front of `bledfu serve`: any central can update the simulated device.

    bledfu serve --state DIR --gatt-tcp 127.0.0.1:PORT --mtu 498
    bridge.py --gatt-tcp 127.0.0.1:PORT --bt-dev 127.0.0.1:HCI_PORT

`--bt-dev` is an HCI door on TCP as `zephyr.exe` takes it, so the test treats both alike; `--transport` takes any
transport Bumble knows (`usb:0`, `hci-socket:0`, `tcp-client:host:port`), for a real radio. The services have the attributes of
those on Zephyr. When the device closes its door the link is closed with reason 0x13; then this program starts over,
with new HCI connection, as a device does after its reset.
"""

import argparse
import asyncio
import contextlib
import struct
import sys

from bumble import att, core, gatt, hci
from bumble.device import Device, DeviceConfiguration
from bumble.transport import open_transport

CONTROL, PACKET, SMP_WRITE, NOTIFICATION, SMP_NOTIFICATION = 1, 2, 3, 0x81, 0x83
WRITE_NOT_PERMITTED, CCCD_IMPROPERLY_CONFIGURED = 0x03, 0xFD
# What Android's Device Manager asks for; `bledfu serve --mtu` must be as large.
MTU_MAX = 498
SMP_SERVICE = core.UUID("8D53DC1D-1DB7-4CD3-868B-8A527460AA84")
SMP_HEADER_SIZE = 8


class Bridge:
    """One life of the peripheral: from power on until the device resets or the controller is gone."""

    def __init__(self, device, door):
        self.device, self.door = device, door
        self.control_point = gatt.Characteristic(
            "8EC90001-F315-4F60-9FB8-838830DAEA50",
            gatt.Characteristic.Properties.WRITE | gatt.Characteristic.Properties.NOTIFY,
            gatt.Characteristic.Permissions.WRITEABLE,
            gatt.CharacteristicValue(write=self._on_control_point))
        self.packets = gatt.Characteristic(
            "8EC90002-F315-4F60-9FB8-838830DAEA50",
            gatt.Characteristic.Properties.WRITE_WITHOUT_RESPONSE,
            gatt.Characteristic.Permissions.WRITEABLE,
            gatt.CharacteristicValue(write=self._on_packet))
        device.add_service(gatt.Service(core.UUID.from_16_bits(0xFE59), [self.control_point, self.packets]))
        self.smp = gatt.Characteristic(
            "DA2E7828-FBCE-4E01-AE9E-261174997C48",
            gatt.Characteristic.Properties.WRITE_WITHOUT_RESPONSE | gatt.Characteristic.Properties.NOTIFY,
            gatt.Characteristic.Permissions.WRITEABLE,
            gatt.CharacteristicValue(write=self._on_smp))
        device.add_service(gatt.Service(SMP_SERVICE, [self.smp]))
        device.gatt_server.max_mtu = MTU_MAX
        self._keep_kinds_of_writes_apart()
        self.advertising_data = bytes(core.AdvertisingData([
            (core.AdvertisingData.FLAGS, b"\x06"),
            (core.AdvertisingData.INCOMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, struct.pack("<H", 0xFE59)),
            (core.AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(SMP_SERVICE))]))
        self.scan_response_data = bytes(core.AdvertisingData([(core.AdvertisingData.COMPLETE_LOCAL_NAME, device.name.encode())]))
        self.connection = self.writer = None
        self.ready = asyncio.Event()            # the door is open for this connection
        self.reset = asyncio.Event()
        self.tasks = set()
        device.on("connection", self._on_connection)

    def _keep_kinds_of_writes_apart(self):
        """Bumble's server does not look at properties: it takes requests and commands on any writable attribute."""
        server = self.device.gatt_server
        on_request, on_command = server.on_att_write_request, server.on_att_write_command

        def on_att_write_request(bearer, request):
            if request.attribute_handle in (self.packets.handle, self.smp.handle):
                server.send_response(bearer, att.ATT_Error_Response(
                    request_opcode_in_error=request.op_code, attribute_handle_in_error=request.attribute_handle,
                    error_code=WRITE_NOT_PERMITTED))
            else:
                on_request(bearer, request)

        def on_att_write_command(bearer, request):
            if request.attribute_handle in (self.packets.handle, self.smp.handle):
                on_command(bearer, request)

        server.on_att_write_request = on_att_write_request
        server.on_att_write_command = on_att_write_command

    async def run(self):
        await self.device.power_on()
        await self._advertise()
        await self.reset.wait()

    async def _advertise(self):
        await self.device.start_advertising(advertising_data=self.advertising_data,
                                            scan_response_data=self.scan_response_data, auto_restart=False,
                                            advertising_interval_min=25, advertising_interval_max=25)

    def _start(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _on_connection(self, connection):
        self.connection = connection
        self.ready.clear()
        connection.on("disconnection", self._on_disconnection)
        self._start(self._carry(connection))

    def _on_disconnection(self, reason):
        self.connection = None
        self.ready.set()
        if self.writer:
            self.writer.close()                 # for the device, this is the disconnection
            self.writer = None
        if not self.reset.is_set():
            self._start(self._advertise())

    async def _carry(self, connection):
        """Opens the device's door for this connection and hands its notifications on."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*self.door)
                break
            await asyncio.sleep(0.1)            # the device is still in its boot stage
        else:
            await connection.disconnect(hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR)
            return
        if self.connection is not connection:
            writer.close()
            return
        self.writer = writer
        self.ready.set()
        answer = b""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length, kind = struct.unpack("<HB", await reader.readexactly(3))
                value = await reader.readexactly(length)
                if kind == NOTIFICATION:
                    await self.device.notify_subscriber(connection, self.control_point, value)
                if kind == SMP_NOTIFICATION:
                    answer += value
                    if len(answer) >= SMP_HEADER_SIZE + struct.unpack_from(">H", answer, 2)[0]:
                        await self._notify_smp(connection, answer)
                        answer = b""
        if self.connection is connection:       # closed by the device: it resets
            self.reset.set()
            with contextlib.suppress(core.BaseBumbleError, asyncio.CancelledError):
                await connection.disconnect(hci.HCI_ErrorCode.REMOTE_USER_TERMINATED_CONNECTION_ERROR)

    async def _notify_smp(self, connection, answer):
        """In fragments of this connection, which are not those of the door."""
        size = connection.att_mtu - 3
        for at in range(0, len(answer), size):
            await self.device.notify_subscriber(connection, self.smp, answer[at:at + size])

    async def _send(self, kind, value):
        await self.ready.wait()
        if self.writer:
            self.writer.write(struct.pack("<HB", len(value), kind) + value)

    async def _on_control_point(self, connection, value):
        if self.device.gatt_server.read_cccd(connection, self.control_point) != b"\x01\x00":
            raise att.ATT_Error(error_code=CCCD_IMPROPERLY_CONFIGURED)
        await self._send(CONTROL, bytes(value))

    async def _on_packet(self, connection, value):
        await self._send(PACKET, bytes(value))

    async def _on_smp(self, connection, value):
        if self.device.gatt_server.read_cccd(connection, self.smp) == b"\x01\x00":
            await self._send(SMP_WRITE, bytes(value))


async def live(transport_name, door, name):
    """One life. False if the controller cannot be reached."""
    try:
        transport = await open_transport(transport_name)
    except OSError:
        return False
    async with transport:
        config = DeviceConfiguration(name=name, address=hci.Address("F0:F1:F2:F3:F4:F5"))
        device = Device.from_config_with_hci(config, transport.source, transport.sink)
        bridge = Bridge(device, door)
        life = asyncio.ensure_future(bridge.run())
        gone = asyncio.ensure_future(transport.source.terminated)
        await asyncio.wait((life, gone), return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            await asyncio.gather(*bridge.tasks)
            await asyncio.sleep(0.05)           # the disconnection goes out
            life.result()
        for task in (life, gone, *bridge.tasks):
            task.cancel()
        return life.done() and not life.cancelled()


async def live_again_and_again(transport_name, door, name):
    while await live(transport_name, door, name):
        print("reset", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gatt-tcp", required=True, metavar="HOST:PORT", help="Bluetooth door of bledfu serve")
    controller = parser.add_mutually_exclusive_group(required=True)
    controller.add_argument("--bt-dev", metavar="HOST:PORT", help="HCI door on TCP")
    controller.add_argument("--transport", metavar="NAME", help="any Bumble transport")
    parser.add_argument("--name", default="bledfu")
    arguments = parser.parse_args()
    host, port = arguments.gatt_tcp.rsplit(":", 1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(live_again_and_again(arguments.transport or "tcp-client:" + arguments.bt_dev, (host, int(port)),
                                         arguments.name))


if __name__ == "__main__":
    sys.exit(main())
