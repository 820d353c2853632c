# SPDX-License-Identifier: Apache-2.0
"""A phone on the GATT door of `bledfu serve`, as Android, iOS and Web Bluetooth libraries behave.

Frames both ways: u16le n, u8 kind, n bytes. Kind 1 is a control point write, 2 a packet write, 0x81 a
control point notification. Closing the socket is a disconnection.
"""

import binascii
import json
import socket
import struct
import time
import zipfile

from wire_trace import CHECKSUM, COMMAND, CREATE, DATA, EXECUTE, SELECT, SET_PRN, WRITE, Trace

CONTROL, PACKET, NOTIFICATION = 1, 2, 0x81
ANSWER_TIMEOUT = 10.0


class Refused(Exception):
    """The device answered with something else than success."""

    def __init__(self, answer):
        super().__init__("device answered " + answer.hex(" "))
        self.op, self.result = answer[1], answer[2]
        self.extended = answer[3] if len(answer) > 3 else None


class Disconnected(Exception):
    """The device closed the link."""


class Wrong(Exception):
    """The device broke a rule of the protocol."""


def crc32(data):
    return binascii.crc32(data) & 0xFFFFFFFF


def load(package, part="application"):
    """Init packet and image of one part of a package."""
    with zipfile.ZipFile(package) as zip_file:
        entry = json.loads(zip_file.read("manifest.json"))["manifest"][part]
        return zip_file.read(entry["dat_file"]), zip_file.read(entry["bin_file"])


class Link:
    """One connection."""

    def __init__(self, address, trace):
        self.trace = trace
        self.socket = socket.create_connection(address, timeout=ANSWER_TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answered_at = 0.0
        self.pending = b""

    def close(self):
        self.socket.close()

    def _send(self, kind, data):
        try:
            self.socket.sendall(struct.pack("<HB", len(data), kind) + data)
        except OSError as error:
            raise Disconnected(str(error)) from error

    def _bytes(self, count):
        while len(self.pending) < count:
            try:
                more = self.socket.recv(65536)
            except socket.timeout:
                raise Wrong("no answer in %u s" % ANSWER_TIMEOUT) from None
            except OSError as error:
                raise Disconnected(str(error)) from error
            if not more:
                raise Disconnected("closed by the device")
            self.pending += more
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken

    def notification(self):
        length, kind = struct.unpack("<HB", self._bytes(3))
        if kind != NOTIFICATION:
            raise Wrong("frame of kind %u from the device" % kind)
        value = self._bytes(length)
        self.answered_at = time.monotonic()
        self.trace.received(value)
        return value

    def request(self, *parts):
        data = b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)
        self.trace.sent(data)
        self._send(CONTROL, data)
        answer = self.notification()
        if answer[:2] != bytes([0x60, data[0]]):
            raise Wrong("%s answers %s" % (answer.hex(" "), data.hex(" ")))
        if answer[2] != 1:
            raise Refused(answer)
        return answer[3:]

    def packet(self, data):
        self.trace.sent(bytes([WRITE]) + data)
        self._send(PACKET, data)

    def raw_packet(self, data):
        """A packet write the trace does not count: for writes the device should refuse."""
        self._send(PACKET, data)

    def checksum(self):
        return struct.unpack("<II", self.request(CHECKSUM))

    def select(self, kind):
        return struct.unpack("<III", self.request(SELECT, kind))

    def wait_for_disconnection(self):
        """Seconds from the last answer to the end of the link."""
        try:
            value = self.notification()
        except Disconnected:
            return time.monotonic() - self.answered_at
        raise Wrong("after the last answer came " + value.hex(" "))


class Phone:
    """Sends one package; `style` is 'android', 'ios' or 'web'."""

    def __init__(self, address, package, style="android", packet_size=244, prn=0, on_frame=None, part="application"):
        self.init_packet, self.image = load(package, part)
        self.address, self.style, self.packet_size, self.prn = address, style, packet_size, prn
        self.trace = Trace(on_frame)
        self.trace.image_size = len(self.image)
        self.seconds_to_disconnection = None

    def update(self):
        """The whole way, from wherever the device is. Raises Refused, Disconnected or Wrong."""
        link = Link(self.address, self.trace)
        try:
            self._send_init_packet(link)
            self._send_image(link)
            self.seconds_to_disconnection = link.wait_for_disconnection()
        finally:
            link.close()
        return self.trace

    def _stream(self, link, data, offset, whole):
        """Writes `whole[offset..]` as packets and checks each receipt; `data` is that part."""
        sent = 0
        for at in range(0, len(data), self.packet_size):
            part = data[at:at + self.packet_size]
            link.packet(part)
            offset += len(part)
            sent += 1
            if self._prn and sent % self._prn == 0:
                receipt = link.notification()
                expected = struct.pack("<II", offset, crc32(whole[:offset]))
                if receipt != bytes([0x60, CHECKSUM, 1]) + expected:
                    raise Wrong("receipt %s, expected offset and CRC %s" % (receipt.hex(" "), expected.hex(" ")))

    def _check(self, link, expected):
        offset, crc = link.checksum()
        if (offset, crc) != (len(expected), crc32(expected)):
            raise Wrong("checksum says %u %08X, sent were %u %08X" % (offset, crc, len(expected), crc32(expected)))

    def _set_prn(self, link, count):
        link.request(SET_PRN, struct.pack("<H", count))
        self._prn = count

    def _send_init_packet(self, link):
        self._prn = 0
        packet = self.init_packet
        _, offset, crc = link.select(COMMAND)
        known = 0 < offset <= len(packet) and crc == crc32(packet[:offset])
        if known and offset == len(packet) and self.style == "web":
            return                          # it does not even execute
        if not (known and offset == len(packet)):
            if not known:
                offset = 0
            if self.style == "android":
                self._set_prn(link, 0)
            if offset == 0:
                link.request(CREATE, COMMAND, struct.pack("<I", len(packet)))
            if self.style == "ios":
                self._set_prn(link, 0)
            self._stream(link, packet[offset:], offset, packet)
            self._check(link, packet)
        link.request(EXECUTE)

    def _send_image(self, link):
        if self.prn and self.style != "web":
            self._set_prn(link, self.prn)
        image = self.image
        size, offset, crc = link.select(DATA)
        if offset > len(image) or crc != crc32(image[:offset]):
            raise Wrong("resume offset %u has a CRC that does not fit" % offset)
        if self.style == "web":
            offset -= offset % size
        elif offset % size:                 # goes on in the open object, without Create
            end = min(offset - offset % size + size, len(image))
            self._stream(link, image[offset:end], offset, image)
            self._check(link, image[:end])
            link.request(EXECUTE)
            offset = end
        elif offset:
            link.request(EXECUTE)           # once more, to be sure; must change nothing
            if link.checksum() != (offset, crc):
                raise Wrong("Execute at an object boundary changed the offset")
        while offset < len(image):
            end = min(offset + size, len(image))
            link.request(CREATE, DATA, struct.pack("<I", end - offset))
            self._stream(link, image[offset:end], offset, image)
            self._check(link, image[:end])
            link.request(EXECUTE)
            offset = end
