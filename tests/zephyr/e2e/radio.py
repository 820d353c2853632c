# SPDX-License-Identifier: Apache-2.0
"""Two virtual Bluetooth controllers in one room: one for the phone, one behind an HCI door on TCP for the device.

The controllers are Bumble's. What Bumble's leave out and a host like Zephyr's relies on is added here: an answer
to every command, data length and PHY updates, fragments of the agreed length, flow control in both directions, and a
device that vanishes when its TCP connection does. No time passes on the air.
"""

import asyncio
import collections
import logging
import socket
import struct

from bumble import controller, hci, link, ll
from bumble.transport.common import PacketParser

DATA_LENGTH_MIN, DATA_LENGTH_MAX = 27, 251
ACL_BUFFERS = 12

log = logging.getLogger("radio")


class Controller(controller.Controller):
    """Bumble's virtual controller with the rest of what a link needs."""

    le_acl_data_packet_length = DATA_LENGTH_MAX
    total_num_le_acl_data_packets = ACL_BUFFERS
    supported_max_tx_octets = supported_max_rx_octets = DATA_LENGTH_MAX
    supported_max_tx_time = supported_max_rx_time = 2120

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.unknown_commands = set()
        self._forget()

    def _forget(self):
        self.le_connections.clear()
        self.advertising_sets.clear()
        self.le_legacy_advertiser.stop()
        self.le_legacy_advertiser.advertising_data = self.le_legacy_advertiser.scan_response_data = b""
        self.pending_le_connection = None
        self.le_scan_enable = False
        self._waiting = collections.deque()     # (sender, sender's handle or None, fragment for our host)
        self._host_buffers = None               # free buffers of our host; None: it takes everything
        self._host_buffer_count = 0

    def vanish(self):
        """The host is gone: its peers see a lost link. (They would after the supervision timeout; here at once.)"""
        for connection in list(self.le_connections.values()):
            peer, peer_connection = self._peer(connection)
            if peer_connection:
                peer.on_le_disconnected(peer_connection, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
        self._forget()

    def _peer(self, connection):
        for other in self.link.controllers:
            for peer_connection in other.le_connections.values():
                if other is not self and (peer_connection.self_address, peer_connection.peer_address) == (
                        connection.peer_address, connection.self_address):
                    return other, peer_connection
        return None, None

    # ---- connection parameters: Bumble's peripheral is told invented ones

    def on_le_connect_ind(self, packet):
        self._connect_ind = packet
        super().on_le_connect_ind(packet)

    def send_hci_packet(self, packet):
        if isinstance(packet, hci.HCI_LE_Connection_Complete_Event) and packet.role == hci.Role.PERIPHERAL:
            packet.connection_interval = self._connect_ind.interval
            packet.peripheral_latency = self._connect_ind.latency
            packet.supervision_timeout = self._connect_ind.timeout
        super().send_hci_packet(packet)

    # ---- commands

    def on_hci_command_packet(self, command):
        if command.op_code == hci.HCI_HOST_NUMBER_OF_COMPLETED_PACKETS_COMMAND:
            self._on_host_completed_packets(bytes(command)[4:])
        elif not hasattr(self, "on_" + command.name.lower()):
            if command.op_code not in self.unknown_commands:
                self.unknown_commands.add(command.op_code)
                log.info("%s: no such command: %s", self.name, command.name)
            self._send_hci_command_status(hci.HCI_ErrorCode.UNKNOWN_HCI_COMMAND_ERROR, command.op_code)
        else:
            super().on_hci_command_packet(command)

    def on_hci_reset_command(self, command):
        self.vanish()
        return super().on_hci_reset_command(command)

    def on_hci_le_set_data_length_command(self, command):
        connection = self.find_le_connection_by_handle(command.connection_handle)
        status = hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR
        if connection:
            status = hci.HCI_ErrorCode.SUCCESS
            peer, peer_connection = self._peer(connection)
            octets = max(DATA_LENGTH_MIN, min(command.tx_octets, DATA_LENGTH_MAX))
            if peer_connection and octets != self._data_length(connection):
                # As every phone does, the other side answers with the same.
                for side, its in ((self, connection), (peer, peer_connection)):
                    its.data_length = octets
                    side.send_hci_packet(hci.HCI_LE_Data_Length_Change_Event(
                        connection_handle=its.handle, max_tx_octets=octets, max_tx_time=(octets + 14) * 8,
                        max_rx_octets=octets, max_rx_time=(octets + 14) * 8))
        return hci.HCI_StatusAndConnectionHandleReturnParameters(status, command.connection_handle)

    def on_hci_le_set_phy_command(self, command):
        connection = self.find_le_connection_by_handle(command.connection_handle)
        if not connection:
            self._send_hci_command_status(hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR, command.op_code)
            return
        self._send_hci_command_status(hci.HCI_COMMAND_STATUS_PENDING, command.op_code)
        wants_2m = command.all_phys & 1 or command.tx_phys & hci.PhyBit.LE_2M
        phy = hci.Phy.LE_2M if wants_2m else hci.Phy.LE_1M
        peer, peer_connection = self._peer(connection)
        sides = [(self, connection)]
        if peer_connection and self._phy(connection) != phy:
            sides.append((peer, peer_connection))
        for side, its in sides:
            its.phy = phy
            side.send_hci_packet(hci.HCI_LE_PHY_Update_Complete_Event(
                status=hci.HCI_ErrorCode.SUCCESS, connection_handle=its.handle, tx_phy=phy, rx_phy=phy))

    def on_hci_read_remote_version_information_command(self, command):
        self._send_hci_command_status(hci.HCI_COMMAND_STATUS_PENDING, command.op_code)
        self.send_hci_packet(hci.HCI_Read_Remote_Version_Information_Complete_Event(
            status=hci.HCI_ErrorCode.SUCCESS, connection_handle=command.connection_handle,
            version=self.lmp_version, manufacturer_name=self.manufacturer_company_identifier, subversion=0))

    @staticmethod
    def _data_length(connection):
        return getattr(connection, "data_length", DATA_LENGTH_MIN)

    @staticmethod
    def _phy(connection):
        return getattr(connection, "phy", hci.Phy.LE_1M)

    def link_parameters(self):
        """Data length and PHY of the one connection."""
        connection, = self.le_connections.values()
        return self._data_length(connection), self._phy(connection)

    # ---- data, and its flow control

    def on_hci_set_controller_to_host_flow_control_command(self, command):
        self._host_buffers = self._host_buffer_count if command.flow_control_enable & 1 else None
        return super().on_hci_set_controller_to_host_flow_control_command(command)

    def on_hci_host_buffer_size_command(self, command):
        # One packet at a time, however many buffers the host has: native_sim up to Zephyr 3.7 reads 512 bytes at once and
        # loses a packet that does not end within them, and with it its place in the stream.
        self._host_buffer_count = min(command.host_total_num_acl_data_packets, 1)
        if self._host_buffers is not None:
            self._host_buffers = self._host_buffer_count
        return super().on_hci_host_buffer_size_command(command)

    def _on_host_completed_packets(self, parameters):
        for index in range(parameters[0]):
            _, count = struct.unpack_from("<HH", parameters, 1 + 4 * index)
            if self._host_buffers is not None:
                self._host_buffers = min(self._host_buffers + count, self._host_buffer_count)
        self._deliver()

    def on_hci_acl_data_packet(self, packet):
        connection = self.find_le_connection_by_handle(packet.connection_handle)
        peer, peer_connection = self._peer(connection) if connection else (None, None)
        if not peer_connection:
            log.info("%s: data for a link that is gone", self.name)
            return
        step = self._data_length(connection)
        data = packet.data
        first = packet.pb_flag != hci.HCI_ACL_PB_CONTINUATION
        for at in range(0, max(len(data), 1), step):
            part = data[at:at + step]
            flag = hci.HCI_ACL_PB_FIRST_FLUSHABLE if first and at == 0 else hci.HCI_ACL_PB_CONTINUATION
            last = at + step >= len(data)
            peer._waiting.append((self, packet.connection_handle if last else None,
                                  hci.HCI_AclDataPacket(peer_connection.handle, flag, 0, len(part), part)))
        peer._deliver()

    def _deliver(self):
        """To our host, as far as it has buffers. A sender's buffer is free when its bytes are delivered."""
        while self._waiting:
            sender, handle, fragment = self._waiting[0]
            # A host keeps the first fragment's buffer until it has the last one: those are not held back.
            held_back = self._host_buffers is not None and self._host_buffers <= 0
            if held_back and fragment.pb_flag != hci.HCI_ACL_PB_CONTINUATION:
                break
            self._waiting.popleft()
            if self._host_buffers is not None:
                self._host_buffers -= 1
            self.send_hci_packet(fragment)
            if handle is not None:
                sender.send_hci_packet(hci.HCI_Number_Of_Completed_Packets_Event(
                    connection_handles=[handle], num_completed_packets=[1]))

    def on_le_disconnected(self, connection, reason):
        self._waiting = collections.deque(
            entry for entry in self._waiting if entry[2].connection_handle != connection.handle)
        if self._host_buffers is not None:
            self._host_buffers = self._host_buffer_count    # a host returns none of a link that is gone
        super().on_le_disconnected(connection, reason)

    def on_hci_disconnect_command(self, command):
        connection = self.find_le_connection_by_handle(command.connection_handle)
        if not connection:
            self._send_hci_command_status(hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR, command.op_code)
            return
        self._send_hci_command_status(hci.HCI_COMMAND_STATUS_PENDING, command.op_code)
        connection.send_ll_control_pdu(ll.TerminateInd(command.reason))
        self.on_le_disconnected(connection, hci.HCI_ErrorCode.CONNECTION_TERMINATED_BY_LOCAL_HOST_ERROR)


class Radio:
    """The room. `open()` starts the door that a device's host connects to, any number of times, one after the other."""

    def __init__(self):
        self.link = link.LocalLink()
        self.phone = Controller("phone", link=self.link)
        self.device = Controller("device", link=self.link)
        self.port = None
        self.connections = 0                    # of hosts to the door so far
        self.changed = asyncio.Event()
        self.on_host_gone = None                # called at once when the door's connection ends
        self._server = self._writer = None

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self):
        if self._writer:
            self._writer.close()
        if self._server:
            self._server.close()

    @property
    def occupied(self):
        return self._writer is not None

    async def _serve(self, reader, writer):
        self.device.vanish()
        self._writer = writer
        self.connections += 1
        self.changed.set()
        self.device.host = self                 # on_packet below
        parser = PacketParser(self.device)
        try:
            self._acknowledge_at_once(writer)
            while data := await reader.read(4096):
                self._acknowledge_at_once(writer)
                parser.feed_data(data)
        except (OSError, asyncio.CancelledError):
            pass
        if self._writer is writer:
            self._writer = None
            if self.on_host_gone:
                self.on_host_gone()
            self.device.host = None
            self.device.vanish()
            self.changed.set()
        writer.close()

    @staticmethod
    def _acknowledge_at_once(writer):
        """native_sim sends HCI packets with Nagle's algorithm on: with delayed acknowledgements each would take 40 ms."""
        if hasattr(socket, "TCP_QUICKACK"):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def on_packet(self, packet):
        if self._writer:
            self._writer.write(packet)

    async def wait(self, condition, timeout):
        """Waits until `condition()` holds; it may change whenever a host comes or goes."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not condition():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except asyncio.TimeoutError:
                pass
        return True
