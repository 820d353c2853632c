# SPDX-License-Identifier: Apache-2.0
"""What went over the wire between a client and the device, and whether it keeps the rules of the protocol."""

import struct
import time

CREATE, SET_PRN, CHECKSUM, EXECUTE, SELECT, GET_MTU, WRITE, PING, ABORT = 1, 2, 3, 4, 6, 7, 8, 9, 12
COMMAND, DATA = 1, 2
OBJECT_SIZE = 4096

# Length of a successful answer. Some clients refuse any other.
ANSWER_LENGTHS = {CREATE: 3, SET_PRN: 3, CHECKSUM: 11, EXECUTE: 3, SELECT: 15, GET_MTU: 5, PING: 4}


class Trace:
    """Frames in the order the client saw them: requests and writes it sent, answers and receipts it got.

    `on_frame(trace)` is called after each; a scenario cuts the power or the link from there.
    """

    def __init__(self, on_frame=None):
        self.on_frame = on_frame
        self.problems = []
        self.frames = 0
        self.current = COMMAND
        self.data_bytes = 0        # of the image, sent in this session
        self.command_bytes = 0
        self.executed = 0          # data objects whose Execute was answered with success
        self.receipts = 0
        self.resumed_at = None     # offset of the first answer to Select data
        self.command_offset = None
        self.results = []          # (op, result, extended) of every answer that was no success
        self.final_execute_sent = False
        self.slowest = (0.0, None)  # seconds from request to answer, and the request's op code
        self._asked_at = 0.0
        self._waiting = None       # the request that has no answer yet
        self._open_object = False
        self._writes = 0
        self._prn = 0
        self._receipt_due = False
        self.image_size = None     # set by the scenario, to know the last object

    def sent(self, frame):
        op = frame[0]
        if op == WRITE:
            self._receipt_missing("before the next write")
            if self.current == DATA:
                self.data_bytes += len(frame) - 1
            else:
                self.command_bytes += len(frame) - 1
            self._writes += 1
            if self._prn and self._writes == self._prn:
                self._writes = 0
                self._receipt_due = True
        else:
            self._receipt_missing("before request %02x" % op)
            if self._waiting is not None and self._waiting[0] != PING:
                self.problems.append("no answer to %s" % self._waiting.hex(" "))
            self._waiting = frame
            self._asked_at = time.monotonic()
            if op == SELECT:
                self.current = frame[1]
            if op == CREATE:
                self.current = frame[1]
                self._writes = 0
            if op == SET_PRN:
                self._prn = struct.unpack("<H", frame[1:3])[0]
                self._writes = 0
            if op == EXECUTE and self.current == DATA and self._last_object():
                self.final_execute_sent = True
            if op == ABORT:
                self._waiting = None
        self._tell()

    def _last_object(self):
        return self.image_size is not None and (self.resumed_at or 0) + self.data_bytes >= self.image_size

    def _receipt_missing(self, when):
        if self._receipt_due:
            self.problems.append("no receipt after the last of %u writes, %s" % (self._prn, when))
            self._receipt_due = False

    def received(self, frame):
        if len(frame) < 3 or frame[0] != 0x60:
            self.problems.append("not an answer: " + frame.hex(" "))
            return
        op, result = frame[1], frame[2]
        waiting = self._waiting
        if op == CHECKSUM and self._receipt_due:
            self._receipt_due = False
            self.receipts += 1
        elif waiting is None or waiting[0] != op:
            self.problems.append("unsolicited: " + frame.hex(" "))
            return
        else:
            self._waiting = None
            self.slowest = max(self.slowest, (time.monotonic() - self._asked_at, op))
        if result == 1:
            if op in ANSWER_LENGTHS and len(frame) != ANSWER_LENGTHS[op]:
                self.problems.append("%u bytes instead of %u: %s" % (len(frame), ANSWER_LENGTHS[op], frame.hex(" ")))
            if op == CREATE:
                self._open_object = True
            if op == EXECUTE and self.current == DATA and self.data_bytes and self._open_object:
                self.executed += 1
                self._open_object = False
            if op == SELECT:
                offset = struct.unpack("<III", frame[3:15])[1]
                if waiting[1] == COMMAND and self.command_offset is None:
                    self.command_offset = offset
                if waiting[1] == DATA and self.resumed_at is None:
                    self.resumed_at = offset
                    self._open_object = offset % OBJECT_SIZE != 0
        else:
            if len(frame) != (4 if result == 0x0B else 3):
                self.problems.append("refusal of %u bytes: %s" % (len(frame), frame.hex(" ")))
            self.results.append((op, result, frame[3] if result == 0x0B and len(frame) > 3 else None))
        self._tell()

    def _tell(self):
        self.frames += 1
        if self.on_frame:
            self.on_frame(self)

    @property
    def final_execute_answered(self):
        return self.final_execute_sent and self._waiting is None
