# SPDX-License-Identifier: Apache-2.0
"""The computer in the room: `bledfu send --hci`, a host that is not Bumble's, on a virtual controller of its own."""

import asyncio
import json
import subprocess
import threading

from bumble.transport.common import PacketParser
from harness import Failure
from radio import Controller

END_TIMEOUT = 120


class Computer:
    """A controller behind an HCI door on TCP, and the program in front of it."""

    def __init__(self, central, bledfu):
        self.central, self.bledfu = central, bledfu
        self.controller = self.port = self._server = self._writer = None
        self.process = None
        self.events, self.errors = [], []
        self.changed = threading.Condition()
        self.threads = []
        central.run(self._open())

    async def _open(self):
        self.controller = Controller("computer", link=self.central.radio.link)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        self.controller.vanish()
        self._writer = writer
        self.controller.host = self                 # on_packet below
        parser = PacketParser(self.controller)
        try:
            while data := await reader.read(4096):
                parser.feed_data(data)
        except (OSError, asyncio.CancelledError):
            pass
        self._writer = None
        self.controller.host = None
        self.controller.vanish()
        writer.close()

    def on_packet(self, packet):
        if self._writer:
            self._writer.write(packet)

    def send(self, *arguments):
        """Starts `bledfu send` with these arguments; its events are collected."""
        command = [self.bledfu, "send", *arguments, "--hci", "tcp:127.0.0.1:%u" % self.port, "--json"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.events, self.errors = [], []
        self.threads = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_errors)]
        for thread in self.threads:
            thread.start()

    def _read_events(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "no more"})
            self.changed.notify_all()

    def _read_errors(self):
        self.errors += self.process.stderr.read().splitlines()

    def wait(self, condition, timeout=END_TIMEOUT):
        """The first event for which `condition` holds."""
        def found():
            return [event for event in self.events if condition(event) or event["event"] == "no more"]
        with self.changed:
            if not self.changed.wait_for(found, timeout):
                raise Failure("not told in %u s; the last was %s" % (timeout, self.events[-1:]))
            event = found()[0]
        if not condition(event):
            raise Failure("bledfu send ended: %s" % "; ".join(self.errors))
        return event

    def end(self):
        """Its exit code, and what it told by the name of each event."""
        self.wait(lambda event: event["event"] == "no more")
        code = self.process.wait(END_TIMEOUT)
        for thread in self.threads:
            thread.join(END_TIMEOUT)
        return code, {event["event"]: event for event in self.events}

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._server:
            self.central.loop.call_soon_threadsafe(self._server.close)
