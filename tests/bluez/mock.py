# SPDX-License-Identifier: Apache-2.0
"""BlueZ as its clients see it on D-Bus, with one adapter and a device for each `bledfu serve --gatt-tcp`.

    DBUS_SYSTEM_BUS_ADDRESS=unix:path=BUS mock.py [--buttonless] HOST:PORT ...

The first is `lamp` at F0:F1:F2:F3:F4:F5, the next `lamp 2` at ...:F6, and so on. Nothing here is Bluetooth: each write becomes a
frame of the device's door, each frame from there a changed value. When the door is closed, the link is lost. Prints `ready` when it
owns the name.

With --buttonless the only device is an application with SMP and the buttonless characteristic. Asked for it, it confirms, closes the
link and is found as `lamp DFU`, one address above, with Secure DFU alone, until it resets or nobody comes. `bledfu serve` has no such
mode: what is a model here is who offers which characteristic when; SMP and Secure DFU are answered by the device.
"""

import asyncio
import struct
import sys

from dbus_fast import BusType, Message, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError
from dbus_fast.service import ServiceInterface, dbus_property, method

ADAPTER = "/org/bluez/hci0"
DFU, SMP = "0000fe59-0000-1000-8000-00805f9b34fb", "8d53dc1d-1db7-4cd3-868b-8a527460aa84"
CONTROL_POINT, PACKET = "8ec90001-f315-4f60-9fb8-838830daea50", "8ec90002-f315-4f60-9fb8-838830daea50"
BUTTONLESS = "8ec90003-f315-4f60-9fb8-838830daea50"
CONFIGURATION = "00002902-0000-1000-8000-00805f9b34fb"
SMP_VALUE = "da2e7828-fbce-4e01-ae9e-261174997c48"
MTU = 247
KINDS = {CONTROL_POINT: 1, PACKET: 2, SMP_VALUE: 3}
NOTIFICATIONS = {0x81: CONTROL_POINT, 0x83: SMP_VALUE}
FAILED = "org.bluez.Error.Failed"
SECURE_DFU = (DFU, ((CONTROL_POINT, ["write", "notify"]), (PACKET, ["write-without-response"])))
ENTRY = (DFU, ((BUTTONLESS, ["write", "indicate"]),))
MANAGEMENT = (SMP, ((SMP_VALUE, ["write-without-response", "notify"]),))
# How long a bootloader waits for a client, in s.
PATIENCE = 10
# Buttonless entry: the request, and the answer that it was done.
ENTER, ENTERS = b"\x01", b"\x20\x01\x01"


class Adapter(ServiceInterface):
    def __init__(self, worlds):
        super().__init__("org.bluez.Adapter1")
        self.worlds, self.powered, self.discovering = worlds, True, False
        self.hearing = None

    @method()
    async def StartDiscovery(self):
        self.discovering = True
        self.hearing = self.hearing or asyncio.ensure_future(self.hear())

    async def hear(self):
        # BlueZ tells the strength of each advertisement that it hears: browsers list a device when they hear of it.
        while self.discovering:
            for world in self.worlds:
                if world.is_on:
                    world.device.advertise()
            await asyncio.sleep(0.2)
        self.hearing = None

    @method()
    def StopDiscovery(self):
        self.discovering = False

    @method()
    def SetDiscoveryFilter(self, properties: "a{sv}"):
        pass

    @method()
    def RemoveDevice(self, device: "o"):
        pass

    @dbus_property()
    def Powered(self) -> "b":
        return self.powered

    @Powered.setter
    def Powered(self, value: "b"):
        self.powered = value

    @dbus_property(access=PropertyAccess.READ)
    def Discovering(self) -> "b":
        return self.discovering


def add_constants(interface, values):
    """Properties that never change: name -> (signature, value)."""
    def getter(name, signature, value):
        def get(self):
            return value
        get.__name__, get.__annotations__ = name, {"return": signature}
        return get
    for name, (signature, value) in values.items():
        setattr(interface, name, dbus_property(access=PropertyAccess.READ)(getter(name, signature, value)))


add_constants(Adapter, {
    "Address": ("s", "00:00:00:00:00:01"), "AddressType": ("s", "public"), "Name": ("s", "mock"), "Alias": ("s", "mock"),
    "Class": ("u", 0), "Discoverable": ("b", False), "Pairable": ("b", False), "DiscoverableTimeout": ("u", 0),
    "PairableTimeout": ("u", 0), "UUIDs": ("as", []), "Modalias": ("s", "usb:v1D6Bp0246d0542")})


class Device(ServiceInterface):
    def __init__(self, world, address, name):
        super().__init__("org.bluez.Device1")
        self.world, self.address, self.label, self.connected, self.resolved = world, address, name, False, False
        self.rssi = -42

    def advertise(self):
        if not self.connected:
            self.rssi = -42 if self.rssi == -43 else -43
            self.emit_properties_changed({"RSSI": self.rssi})

    @dbus_property(access=PropertyAccess.READ)
    def RSSI(self) -> "n":
        return self.rssi

    @method()
    async def Connect(self):
        await self.world.connect()

    @method()
    def Disconnect(self):
        self.world.close()

    @dbus_property(access=PropertyAccess.READ)
    def Address(self) -> "s":
        return self.address

    @dbus_property(access=PropertyAccess.READ)
    def Name(self) -> "s":
        return self.label

    @dbus_property(access=PropertyAccess.READ)
    def Alias(self) -> "s":
        return self.label

    @dbus_property(access=PropertyAccess.READ)
    def Connected(self) -> "b":
        return self.connected

    @dbus_property(access=PropertyAccess.READ)
    def ServicesResolved(self) -> "b":
        return self.resolved


add_constants(Device, {
    "AddressType": ("s", "random"), "Paired": ("b", False), "Trusted": ("b", False), "Blocked": ("b", False),
    "LegacyPairing": ("b", False), "UUIDs": ("as", [DFU, SMP]), "Adapter": ("o", ADAPTER)})


class Service(ServiceInterface):
    def __init__(self, device, uuid, handle):
        super().__init__("org.bluez.GattService1")
        self.device, self.uuid, self.handle = device, uuid, handle

    @dbus_property(access=PropertyAccess.READ)
    def Device(self) -> "o":
        return self.device

    @dbus_property(access=PropertyAccess.READ)
    def UUID(self) -> "s":
        return self.uuid

    @dbus_property(access=PropertyAccess.READ)
    def Handle(self) -> "q":
        return self.handle


add_constants(Service, {"Primary": ("b", True), "Includes": ("ao", [])})


class Characteristic(ServiceInterface):
    def __init__(self, world, uuid, flags, service, handle):
        super().__init__("org.bluez.GattCharacteristic1")
        self.world, self.uuid, self.flags, self.service, self.handle = world, uuid, flags, service, handle
        self.notifying, self.value = False, b""

    @method()
    def WriteValue(self, value: "ay", options: "a{sv}"):
        kind = options["type"].value
        needed = {"request": "write", "command": "write-without-response"}[kind]
        if needed not in self.flags:
            raise DBusError(FAILED, "Operation failed with ATT error: 0x03")
        if self.uuid in (CONTROL_POINT, BUTTONLESS) and not self.notifying:
            raise DBusError(FAILED, "Operation failed with ATT error: 0xfd")
        if len(value) > MTU - 3:
            raise DBusError(FAILED, "Operation failed with ATT error: 0x0d")
        if self.uuid == BUTTONLESS:
            self.world.enter(bytes(value))
        else:
            self.world.write(KINDS[self.uuid], bytes(value))

    @method()
    def ReadValue(self, options: "a{sv}") -> "ay":
        raise DBusError("org.bluez.Error.NotPermitted", "Read not permitted")

    @method()
    def StartNotify(self):
        self.set_notifying(True)

    @method()
    def StopNotify(self):
        self.set_notifying(False)

    def set_notifying(self, value):
        self.notifying = value
        self.emit_properties_changed({"Notifying": value})

    def notify(self, value):
        if self.notifying:
            self.value = value
            self.emit_properties_changed({"Value": value})

    @dbus_property(access=PropertyAccess.READ)
    def UUID(self) -> "s":
        return self.uuid

    @dbus_property(access=PropertyAccess.READ)
    def Service(self) -> "o":
        return self.service

    @dbus_property(access=PropertyAccess.READ)
    def Value(self) -> "ay":
        return self.value

    @dbus_property(access=PropertyAccess.READ)
    def Notifying(self) -> "b":
        return self.notifying

    @dbus_property(access=PropertyAccess.READ)
    def Flags(self) -> "as":
        return self.flags

    @dbus_property(access=PropertyAccess.READ)
    def Handle(self) -> "q":
        return self.handle


add_constants(Characteristic, {"MTU": ("q", MTU)})


class Configuration(ServiceInterface):
    """The descriptor that switches notifications on. Browsers want to see it; they leave writing it to BlueZ."""

    def __init__(self, characteristic, handle):
        super().__init__("org.bluez.GattDescriptor1")
        self.characteristic, self.handle = characteristic, handle

    @method()
    def ReadValue(self, options: "a{sv}") -> "ay":
        return b"\0\0"

    @method()
    def WriteValue(self, value: "ay", options: "a{sv}"):
        raise DBusError("org.bluez.Error.NotPermitted", "Write not permitted")

    @dbus_property(access=PropertyAccess.READ)
    def Characteristic(self) -> "o":
        return self.characteristic

    @dbus_property(access=PropertyAccess.READ)
    def Handle(self) -> "q":
        return self.handle


add_constants(Configuration, {"UUID": ("s", CONFIGURATION), "Value": ("ay", b""), "Flags": ("as", ["read", "write"])})


class World:
    """One device, and the connection to it."""

    def __init__(self, bus, door, number, name, services):
        address = "F0:F1:F2:F3:F4:%02X" % (0xF5 + number)
        self.bus, self.door, self.path = bus, door, ADAPTER + "/dev_" + address.replace(":", "_")
        self.device, self.services = Device(self, address, name), services
        # Whether it is there; and, with buttonless entry, what the same device is in its other mode.
        self.is_on, self.other, self.is_exported = True, None, False
        self.has_services = False
        self.characteristics = {}
        self.writer = self.reading = None

    def export(self):
        self.bus.export(self.path, self.device)
        self.is_exported = True
        self.announce(self.path, self.device)

    def tell(self, member, signature, *body):
        # From the root, where BlueZ has its object manager.
        self.bus.send(Message.new_signal("/", "org.freedesktop.DBus.ObjectManager", member, signature, list(body)))

    async def connect(self):
        if self.writer:
            return
        if not self.is_on:
            await asyncio.sleep(1)
            raise DBusError(FAILED, "le-connection-abort-by-local")
        try:
            reader, self.writer = await asyncio.open_connection(*self.door)
        except OSError as error:
            raise DBusError(FAILED, "le-connection-abort-by-local") from error
        self.set_state(True, False)
        if not self.has_services:
            await self.add_services()
            self.has_services = True
        self.set_state(True, True)
        self.reading = asyncio.ensure_future(self.read(reader, self.writer))

    async def add_services(self):
        # As with BlueZ they stay when the link is lost (main.conf, Cache = always). Chromium must not lose one with a write under way: no
        # call of its Web Bluetooth returns from then on.
        handle = 9
        for service, members in self.services:
            path = "%s/service%04x" % (self.path, handle)
            await self.add(path, Service(self.path, service, handle))
            for uuid, flags in members:
                handle += 1
                characteristic = Characteristic(self, uuid, flags, path, handle)
                self.characteristics[uuid] = characteristic
                at = "%s/char%04x" % (path, handle)
                await self.add(at, characteristic)
                if "notify" in flags or "indicate" in flags:
                    handle += 2
                    await self.add("%s/desc%04x" % (at, handle), Configuration(at, handle))
            handle += 1

    async def add(self, path, interface):
        self.bus.export(path, interface)
        self.announce(path, interface)

    def announce(self, path, interface):
        properties = {}
        for prop in ServiceInterface._get_properties(interface):
            properties[prop.name] = Variant(prop.signature, getattr(interface, prop.prop_getter.__name__))
        self.tell("InterfacesAdded", "oa{sa{sv}}", path, {interface.name: properties})

    async def read(self, reader, writer):
        try:
            while True:
                length, kind = struct.unpack("<HB", await reader.readexactly(3))
                self.characteristics[NOTIFICATIONS[kind]].notify(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            # The end of a connection that was closed here must not close the next one.
            if writer is self.writer:
                self.close()
                # A reset ends the bootloader.
                if self.is_bootloader:
                    self.change_mode()

    @property
    def is_bootloader(self):
        return self.is_on and self.other is not None and ENTRY in self.other.services

    def return_unless_used(self):
        if self.is_bootloader and not self.writer:
            self.change_mode()

    def enter(self, request):
        if request != ENTER:
            self.characteristics[BUTTONLESS].notify(bytes([0x20, request[0] if request else 0, 0x02]))
            return
        self.characteristics[BUTTONLESS].notify(ENTERS)
        asyncio.get_running_loop().call_later(0.2, self.change_mode)

    def change_mode(self):
        self.close()
        self.is_on, self.other.is_on = False, True
        if not self.other.is_exported:
            self.other.export()

    def write(self, kind, value):
        if not self.writer:
            raise DBusError("org.bluez.Error.NotConnected", "Not Connected")
        self.writer.write(struct.pack("<HB", len(value), kind) + value)

    def close(self):
        if not self.writer:
            return
        self.writer.close()
        self.writer = None
        self.set_state(False, False)
        for characteristic in self.characteristics.values():
            if characteristic.notifying:
                characteristic.set_notifying(False)
        if self.is_bootloader:
            asyncio.get_running_loop().call_later(PATIENCE, self.return_unless_used)

    def set_state(self, connected, resolved):
        self.device.connected, self.device.resolved = connected, resolved
        self.device.emit_properties_changed({"Connected": connected, "ServicesResolved": resolved})


async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    arguments = [argument for argument in sys.argv[1:] if argument != "--buttonless"]
    doors = [(host, int(port)) for host, port in (door.rsplit(":", 1) for door in arguments)]
    if "--buttonless" in sys.argv:
        worlds = [World(bus, doors[0], 0, "lamp", (ENTRY, MANAGEMENT)), World(bus, doors[0], 1, "lamp DFU", (SECURE_DFU,))]
        worlds[0].other, worlds[1].other = reversed(worlds)
        worlds[1].is_on = False
    else:
        worlds = [World(bus, door, number, "lamp %u" % (number + 1) if number else "lamp", (SECURE_DFU, MANAGEMENT))
                  for number, door in enumerate(doors)]
    bus.export(ADAPTER, Adapter(worlds))
    for world in worlds:
        if world.is_on:
            world.export()
    await bus.request_name("org.bluez")
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main())
