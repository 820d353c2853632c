# SPDX-License-Identifier: Apache-2.0
"""BlueZ as its clients see it on D-Bus, with one adapter and a device for each `bledfu serve --gatt-tcp`.

    DBUS_SYSTEM_BUS_ADDRESS=unix:path=BUS mock.py HOST:PORT ...

The first is `lamp` at F0:F1:F2:F3:F4:F5, the next `lamp 2` at ...:F6, and so on. Nothing here is Bluetooth: each write becomes a frame of the device's door, each frame from there a changed value. When the door is
closed, the link is lost. Prints `ready` when it owns the name.
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
SMP_VALUE = "da2e7828-fbce-4e01-ae9e-261174997c48"
MTU = 247
KINDS = {CONTROL_POINT: 1, PACKET: 2, SMP_VALUE: 3}
NOTIFICATIONS = {0x81: CONTROL_POINT, 0x83: SMP_VALUE}
FAILED = "org.bluez.Error.Failed"


class Adapter(ServiceInterface):
    def __init__(self):
        super().__init__("org.bluez.Adapter1")
        self.powered, self.discovering = True, False

    @method()
    def StartDiscovery(self):
        self.discovering = True

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
    "LegacyPairing": ("b", False), "RSSI": ("n", -42), "UUIDs": ("as", [DFU, SMP]), "Adapter": ("o", ADAPTER)})


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
        if self.uuid == CONTROL_POINT and not self.notifying:
            raise DBusError(FAILED, "Operation failed with ATT error: 0xfd")
        if len(value) > MTU - 3:
            raise DBusError(FAILED, "Operation failed with ATT error: 0x0d")
        self.world.write(KINDS[self.uuid], bytes(value))

    @method()
    def ReadValue(self, options: "a{sv}") -> "ay":
        raise DBusError("org.bluez.Error.NotPermitted", "Read not permitted")

    @method()
    def StartNotify(self):
        self.notifying = True
        self.emit_properties_changed({"Notifying": True})

    @method()
    def StopNotify(self):
        self.notifying = False
        self.emit_properties_changed({"Notifying": False})

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


class World:
    """One device, and the connection to it."""

    def __init__(self, bus, door, number):
        address = "F0:F1:F2:F3:F4:%02X" % (0xF5 + number)
        self.bus, self.door, self.path = bus, door, ADAPTER + "/dev_" + address.replace(":", "_")
        self.device = Device(self, address, "lamp %u" % (number + 1) if number else "lamp")
        self.objects = {}                       # path -> interface, of the connection
        self.characteristics = {}
        self.writer = self.reading = None

    def tell(self, member, signature, *body):
        # From the root, where BlueZ has its object manager.
        self.bus.send(Message.new_signal("/", "org.freedesktop.DBus.ObjectManager", member, signature, list(body)))

    async def connect(self):
        if self.writer:
            return
        try:
            reader, self.writer = await asyncio.open_connection(*self.door)
        except OSError as error:
            raise DBusError(FAILED, "le-connection-abort-by-local") from error
        self.set_state(True, False)
        handle = 9
        for service, members in ((DFU, ((CONTROL_POINT, ["write", "notify"]), (PACKET, ["write-without-response"]))),
                                 (SMP, ((SMP_VALUE, ["write-without-response", "notify"]),))):
            path = "%s/service%04x" % (self.path, handle)
            await self.add(path, Service(self.path, service, handle))
            for uuid, flags in members:
                handle += 1
                characteristic = Characteristic(self, uuid, flags, path, handle)
                self.characteristics[uuid] = characteristic
                await self.add("%s/char%04x" % (path, handle), characteristic)
            handle += 1
        self.set_state(True, True)
        self.reading = asyncio.ensure_future(self.read(reader))

    async def add(self, path, interface):
        self.bus.export(path, interface)
        self.objects[path] = interface
        properties = {}
        for prop in ServiceInterface._get_properties(interface):
            properties[prop.name] = Variant(prop.signature, getattr(interface, prop.prop_getter.__name__))
        self.tell("InterfacesAdded", "oa{sa{sv}}", path, {interface.name: properties})

    async def read(self, reader):
        try:
            while True:
                length, kind = struct.unpack("<HB", await reader.readexactly(3))
                self.characteristics[NOTIFICATIONS[kind]].notify(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            self.close()

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
        for path, interface in self.objects.items():
            self.bus.unexport(path, interface)
            self.tell("InterfacesRemoved", "oas", path, [interface.name])
        self.objects, self.characteristics = {}, {}

    def set_state(self, connected, resolved):
        self.device.connected, self.device.resolved = connected, resolved
        self.device.emit_properties_changed({"Connected": connected, "ServicesResolved": resolved})


async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.export(ADAPTER, Adapter())
    for number, door in enumerate(sys.argv[1:]):
        host, port = door.rsplit(":", 1)
        world = World(bus, (host, int(port)), number)
        bus.export(world.path, world.device)
    await bus.request_name("org.bluez")
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main())
