# SPDX-License-Identifier: Apache-2.0
"""A phone that speaks SMP (mcumgr) over the real characteristic: fragments, windowed upload, the steps of the Device Manager apps.

Requests are encoded, and every answer is decoded, by the models of the package `smp`, which smpclient uses: they refuse any key, type
or error number that they do not know. What they do not model is sent and read as plain CBOR.
"""

import hashlib
import queue
import struct
import time

import cbor2
from central import ANSWER_TIMEOUT
from gatt import Disconnected, Wrong
from harness import Failure
from pydantic import ValidationError
from smp import header as smp_header
from smp import image_management as images
from smp import os_management as os_group

READ, WRITE = 0, 2
V1, V2 = smp_header.Version.V1, smp_header.Version.V2
OS, IMAGE = 0, 1
HEADER = struct.Struct("!BBHHBB")

# Answers of a device that follows the protocol: success, error in version 1, error in version 2.
OS_ERRORS = (os_group.OSManagementErrorV1, os_group.OSManagementErrorV2)
IMAGE_ERRORS = (images.ImageManagementErrorV1, images.ImageManagementErrorV2)
ANSWERS = {
    os_group.EchoWriteRequest: (os_group.EchoWriteResponse, *OS_ERRORS),
    os_group.ResetWriteRequest: (os_group.ResetWriteResponse, *OS_ERRORS),
    os_group.MCUMgrParametersReadRequest: (os_group.MCUMgrParametersReadResponse, *OS_ERRORS),
    os_group.OSApplicationInfoReadRequest: (os_group.OSApplicationInfoReadResponse, *OS_ERRORS),
    os_group.BootloaderInformationReadRequest: (os_group.BootloaderInformationReadResponse, *OS_ERRORS),
    images.ImageStatesReadRequest: (images.ImageStatesReadResponse, *IMAGE_ERRORS),
    images.ImageStatesWriteRequest: (images.ImageStatesWriteResponse, *IMAGE_ERRORS),
    images.ImageUploadWriteRequest: (images.ImageUploadWriteResponse, *IMAGE_ERRORS),
    images.ImageEraseRequest: (images.ImageEraseResponse, *IMAGE_ERRORS),
}

# How long Android's Device Manager waits for the answer to a chunk.
CHUNK_TIMEOUT = 2.5
# So often it sends one chunk before it gives up.
CHUNK_TRIES = 5


class SmpRefused(Exception):
    """The device answered with an error: of a group (`err`), or of SMP itself (`rc`; the group is None)."""

    def __init__(self, group, code):
        super().__init__("the device answered %s" % ("rc %u" % code if group is None else "err %u/%u" % (group, code)))
        self.group, self.code = group, code

    @property
    def error(self):
        return self.group, self.code


def frame_of(op, group, command, body, version=V2, sequence=0, length=None):
    """A frame by hand; `body` is CBOR, or something to encode."""
    if not isinstance(body, bytes):
        body = cbor2.dumps(body)
    return HEADER.pack(op | version << 3, 0, len(body) if length is None else length, group, sequence, command) + body


def check_header(request, answer):
    """The answer is one to this request; its CBOR is returned as a dictionary."""
    first, _, _, group, sequence, command = HEADER.unpack_from(request)
    told = HEADER.unpack_from(answer)
    expected = (first & 0x18 | (1 if first & 7 == READ else 3), 0, len(answer) - HEADER.size, group, sequence, command)
    if told != expected:
        raise Wrong("header %s answers %s" % (answer[:8].hex(" "), request[:8].hex(" ")))
    body = cbor2.loads(answer[HEADER.size:])
    if not isinstance(body, dict):
        raise Wrong("the answer is no map: %s" % answer.hex(" "))
    return body


def check(message, answer):
    """The answer to `message` as its model; SmpRefused if it is an error."""
    body = check_header(message.BYTES, answer)
    success, error_v1, error_v2 = ANSWERS[type(message)]
    try:
        if "err" in body:
            error = error_v2.loads(answer).err
            if message.version != V2:
                raise Wrong("err in an answer of version 1")
            raise SmpRefused(error.group, int(error.rc))
        if "rc" in body:
            raise SmpRefused(None, int(error_v1.loads(answer).rc))
        return success.loads(answer)
    except (ValidationError, ValueError) as error:
        raise Wrong("smpclient's models refuse %s: %s" % (body, error)) from None


def chunk(image, offset, size, sequence, sha=True, number=None):
    """The request with the image's bytes from `offset` on that fills a frame of `size` bytes. `sha`: its own, another, or none;
    `number`: for which image of the device.
    """
    fields = {"off": offset}
    if offset == 0:
        fields["len"] = len(image)
        if sha:
            fields["sha"] = hashlib.sha256(image).digest() if sha is True else sha
        if number is not None:
            fields["image"] = number
    # A text of no bytes has a head of one byte, one of up to 255 and of up to 65535 bytes one of two and three.
    room = size - len(images.ImageUploadWriteRequest(data=b"", **fields).BYTES)
    room -= 0 if room < 24 else 1 if room <= 256 else 2
    return images.ImageUploadWriteRequest(data=image[offset:offset + room], sequence=sequence, **fields)


class SmpChannel:
    """The characteristic of one link, with notifications on."""

    def __init__(self, link, fragment_size=None):
        if link.smp is None:
            raise Wrong("the device has no SMP service")
        self.link = link
        self.fragment_size = fragment_size or link.mtu - 3
        self.events = queue.Queue()
        link.listeners.append(self.events)
        self.partial = b""
        self.sequence = 0
        link.central.run(link.smp.subscribe(self._on_notification))

    def _on_notification(self, value):
        """Fragments become answers. Apps accept no byte too many, and no answer that begins where another ends."""
        value = bytes(value)
        problem = None
        if len(value) > self.link.mtu - 3:
            problem = "a notification of %u bytes at MTU %u" % (len(value), self.link.mtu)
        elif not self.partial and len(value) < HEADER.size:
            problem = "the first fragment is shorter than a header: " + value.hex(" ")
        self.partial += value
        missing = 0 if problem else HEADER.size + HEADER.unpack_from(self.partial)[2] - len(self.partial)
        if missing < 0:
            problem = "%u bytes more than the header says: %s" % (-missing, self.partial.hex(" "))
        elif missing > 0 and len(value) < self.link.mtu - 3:
            problem = "a fragment of %u bytes at MTU %u is not the last" % (len(value), self.link.mtu)
        if problem or missing == 0:
            self.events.put((time.monotonic(), Wrong(problem) if problem else self.partial))
            self.partial = b""

    def send(self, frame):
        """As fragments of the largest size."""
        for at in range(0, len(frame), self.fragment_size):
            self.link.raw_write(self.link.smp, frame[at:at + self.fragment_size])

    def next_sequence(self):
        self.sequence = (self.sequence + 1) % 256
        return self.sequence

    def receive(self, timeout=ANSWER_TIMEOUT):
        """The next whole answer; None if there is none in time."""
        try:
            moment, answer = self.events.get(timeout=timeout)
        except queue.Empty:
            return None
        if answer is None:
            self.events.put((moment, None))
            raise Disconnected("closed, reason 0x%02x" % self.link.reason)
        if isinstance(answer, Exception):
            raise answer
        self.link.answered_at = moment
        return answer

    def silent(self, seconds):
        answer = self.receive(seconds)
        if answer is not None:
            raise Wrong("unexpected: " + answer.hex(" "))

    def exchange(self, frame, timeout=ANSWER_TIMEOUT):
        """A frame by hand and the CBOR of its answer, an error or not."""
        self.send(frame)
        answer = self.receive(timeout)
        if answer is None:
            raise Wrong("no answer in %g s to %s" % (timeout, frame[:8].hex(" ")))
        return check_header(frame, answer)

    def request(self, kind, timeout=ANSWER_TIMEOUT, **fields):
        """Asks by a model and returns that of the answer; SmpRefused if it is an error."""
        fields.setdefault("sequence", self.next_sequence())
        message = kind(**fields)
        self.send(message.BYTES)
        answer = self.receive(timeout)
        if answer is None:
            raise Wrong("no answer in %g s to %s" % (timeout, kind.__name__))
        return check(message, answer)

    def echo(self, text="still here?"):
        if self.request(os_group.EchoWriteRequest, d=text).r != text:
            raise Wrong("the echo is another text")

    def images(self):
        """The states of the slots, by slot number."""
        return {state.slot: state for state in self.request(images.ImageStatesReadRequest).images}

    def set_state(self, digest=None, confirm=False):
        answer = self.request(images.ImageStatesWriteRequest, hash=digest, confirm=confirm)
        return {state.slot: state for state in answer.images}

    def erase(self, slot=None):
        self.request(images.ImageEraseRequest, slot=slot)

    def reset(self):
        self.request(os_group.ResetWriteRequest)

    def wait_for_disconnection(self):
        """Seconds from the last answer to the end of the link."""
        try:
            answer = self.receive()
        except Disconnected:
            moment, _ = self.events.get(timeout=0)
            return moment - self.link.answered_at
        raise Wrong("the link stays up" if answer is None else "after the last answer came " + answer.hex(" "))


class SmpPhone:
    """One phone with one image. `window` is the number of chunks that may be without an answer."""

    def __init__(self, central, image, mtu=498, window=3, sha=True, number=None):
        self.central, self.image, self.mtu, self.window, self.sha, self.number = central, image, mtu, window, sha, number
        self.link = self.channel = None
        self.buf_size = self.buf_count = None
        self.resumed_at = None              # offset of the answer to the first chunk, if that chunk was not taken
        self.sent = 0                       # chunks
        self.repeated = 0                   # chunks that were sent again because their answer did not come, or was behind
        self.unanswered = 0                 # chunks whose answer did not come
        self.slowest = 0.0
        self.seconds_of_data = None
        self.match = None

    @property
    def digest(self):
        """By which the image group knows the image: MCUboot's TLV of SHA-256."""
        size, = struct.unpack_from("<I", self.image, 12)
        header_size, = struct.unpack_from("<H", self.image, 8)
        at = header_size + size
        magic, total = struct.unpack_from("<HH", self.image, at)
        if magic == 0x6908:                 # the protected ones come first
            at += total
            magic, total = struct.unpack_from("<HH", self.image, at)
        end, at = at + total, at + 4
        while at < end:
            kind, length = struct.unpack_from("<HH", self.image, at)
            if kind == 0x10:
                return self.image[at + 4:at + 4 + length]
            at += 4 + length
        raise Failure("the image has no digest")

    def connect(self):
        """As Android's app: MTU, notifications, then parameters in version 1 before anything else."""
        self.link = self.central.connect(self.mtu, subscribe=False)
        self.channel = SmpChannel(self.link)
        told = self.channel.request(os_group.MCUMgrParametersReadRequest, version=V1, sequence=0xFF)
        self.buf_size, self.buf_count = told.buf_size, told.buf_count
        return self.channel

    def upload(self, stop_at=None):
        """Until the device has all bytes, or, with `stop_at`, so many; then chunks may be under way."""
        begin = time.monotonic()
        length, channel = len(self.image), self.channel
        held = following = 0                # bytes the device has said it holds, and the next to send
        waiting = {}                        # sequence -> (end of the chunk, moment), in the order sent
        given_up = set()
        behind_at, tries = None, {}
        while held < length and (stop_at is None or held < stop_at):
            window = self.window if held else 1
            while behind_at is None and len(waiting) < window and following < length:
                tries[following] = tries.get(following, 0) + 1
                if tries[following] > CHUNK_TRIES:
                    raise Failure("the chunk at %u was sent %u times for nothing" % (following, CHUNK_TRIES))
                self.repeated += tries[following] > 1
                sequence = channel.next_sequence()
                message = chunk(self.image, following, self.buf_size, sequence, self.sha, self.number)
                end = following + len(message.data)
                if end < length and len(message.BYTES) != self.buf_size:
                    raise Failure("a chunk is %u bytes, not %u" % (len(message.BYTES), self.buf_size))
                given_up.discard(sequence)
                waiting[sequence] = (message, end, time.monotonic())
                channel.send(message.BYTES)
                self.sent += 1
                following = end
            answer = channel.receive(CHUNK_TIMEOUT)
            if answer is None:
                self.unanswered += len(waiting)
                given_up |= set(waiting)
                waiting, following, behind_at = {}, held, None
                continue
            sequence = answer[6]
            if sequence in given_up:
                continue
            if sequence not in waiting:
                raise Wrong("an answer to nothing: " + answer.hex(" "))
            while (first := next(iter(waiting))) != sequence:       # answers come in the order of requests
                self.unanswered += 1
                given_up.add(first)
                del waiting[first]
            message, end, moment = waiting.pop(sequence)
            self.slowest = max(self.slowest, time.monotonic() - moment)
            told = check(message, answer)
            if message.off == 0 and told.off != end:
                self.resumed_at = told.off
                following = told.off
            elif told.off != end:
                behind_at = told.off        # wait for the rest of the window, then go on from there
            held = told.off
            self.match = told.match
            if behind_at is not None and not waiting:
                following, behind_at = held, None
        self.seconds_of_data = time.monotonic() - begin
        wanted = None if not self.sha else self.sha is True or self.sha == hashlib.sha256(self.image).digest()
        if stop_at is None and self.match is not wanted:
            raise Failure("match is %s at the end of the upload" % self.match)
        return held

    def rate(self):
        return (len(self.image) - (self.resumed_at or 0)) / self.seconds_of_data
