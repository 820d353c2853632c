// SPDX-License-Identifier: Apache-2.0
//! The Bluetooth side: advertising, the two services, one peer at a time. Rules of the attributes are those of
//! `zephyr/shim`: the control point takes requests, packets and SMP take commands, and nothing is taken while notifications are off.
//!
//! trouble-host keeps a few writes for us and drops what comes on top, also requests. So writes are taken out at once, whatever else
//! is under way ([`Link::take_writes`] and [`Link::carry_out`] run side by side), and after every packet of the controller
//! ([`Fair`]).

use crate::device::NAME;
use crate::handover::{Handover, Order};
use bledfu_transfer::ring::{Channel, PushError};
use bt_hci::param::Status;
use bt_hci::transport::{PacketToController, PacketToHost, Transport};
use bt_hci::ReadHciError;
use core::convert::Infallible;
use core::fmt::Debug;
use embassy_futures::select::{select, Either};
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_time::Duration;
use embedded_io::ErrorType;
use trouble_host::att::AttClient;
use trouble_host::prelude::*;

/// Secure DFU (Nordic's, in the Bluetooth SIG's list of member services).
const SECURE_DFU_SERVICE: u16 = 0xFE59;
const CONTROL_POINT: u128 = 0x8EC90001_F315_4F60_9FB8_838830DAEA50;
const PACKET: u128 = 0x8EC90002_F315_4F60_9FB8_838830DAEA50;
const SMP_SERVICE: u128 = 0x8D53DC1D_1DB7_4CD3_868B_8A527460AA84;
const SMP: u128 = 0xDA2E7828_FBCE_4E01_AE9E_261174997C48;
/// Bytes of a notification that are not the value.
const NOTIFICATION_HEADER: usize = 3;
/// Bytes a packet of the link layer may carry, and the time one takes on the 1M PHY.
const LONGEST_PACKET: u16 = 251;
const LONGEST_PACKET_US: u16 = 2120;
const FAST_INTERVAL: Duration = Duration::from_millis(15);
/// GAP 5, GATT with Service Changed 4, Secure DFU 6, SMP 4.
const ATTRIBUTES: usize = 19;
const CONNECTIONS: usize = 1;
/// Signalling and ATT.
const L2CAP_CHANNELS: usize = 2;
/// Commands to the controller that are under way at once.
const COMMAND_SLOTS: usize = 10;

type Server<'v> = AttributeServer<'v, NoopRawMutex, DefaultPacketPool, ATTRIBUTES, CONNECTIONS>;
type Peer<'s, 'v> = GattConnection<'s, 'v, DefaultPacketPool>;

/// The characteristics of both services.
struct Attributes {
    control_point: Characteristic<[u8]>,
    packet: Characteristic<[u8]>,
    smp: Characteristic<[u8]>,
}

/// The controller behind a transport.
type Hci<T> = ExternalController<Fair<T>, COMMAND_SLOTS>;

/// A transport that lets others run after every packet: a fast one has always one more.
struct Fair<T>(T);

impl<T: ErrorType> ErrorType for Fair<T> {
    type Error = T::Error;
}

impl<T: Transport> Transport for Fair<T> {
    async fn read<'a, P: PacketToHost<'a>>(&self, rx: &'a mut [u8]) -> Result<P, Self::Error> {
        yield_now().await;
        self.0.read(rx).await
    }

    async fn write<P: PacketToController>(&self, packet: &P) -> Result<(), Self::Error> {
        self.0.write(packet).await
    }
}

/// Runs the Bluetooth host on the controller behind `transport`, for ever. `address` is a static random one, last byte first.
///
/// # Errors
/// The controller is gone, or refuses a command that a host cannot do without.
pub async fn run<T>(transport: T, address: [u8; 6], handover: &Handover) -> Result<(), BleHostError<T::Error>>
where
    T: Transport,
    T::Error: From<ReadHciError<Infallible>> + Debug,
{
    let mut resources = HostResources::<DefaultPacketPool, CONNECTIONS, L2CAP_CHANNELS>::new();
    let stack = trouble_host::new(Hci::new(Fair(transport)), &mut resources)
        .set_random_address(Address::random(address))
        .build();
    let mut runner = stack.runner();
    let mut table = AttributeTable::new();
    let attributes = Attributes::add_to(&mut table);
    let server = Server::new(table);
    match select(runner.run(), serve(&stack, &server, &attributes, handover)).await {
        Either::First(ended) => ended,
        Either::Second(ended) => ended,
    }
}

/// Peers, one after the other.
async fn serve<T>(
    stack: &Stack<'_, Hci<T>, DefaultPacketPool>,
    server: &Server<'_>,
    attributes: &Attributes,
    handover: &Handover,
) -> Result<(), BleHostError<T::Error>>
where
    T: Transport,
    T::Error: From<ReadHciError<Infallible>> + Debug,
{
    let (mut advertised, mut named) = ([0; 31], [0; 31]);
    let data = AdStructure::encode_slice(
        &[
            AdStructure::Flags(LE_GENERAL_DISCOVERABLE | BR_EDR_NOT_SUPPORTED),
            AdStructure::IncompleteServiceUuids16(&[SECURE_DFU_SERVICE.to_le_bytes()]),
            AdStructure::CompleteServiceUuids128(&[SMP_SERVICE.to_le_bytes()]),
        ],
        &mut advertised,
    )?;
    let name = AdStructure::encode_slice(&[AdStructure::CompleteLocalName(NAME.as_bytes())], &mut named)?;
    let mut peripheral = stack.peripheral();
    loop {
        let advertisement = Advertisement::ConnectableScannableUndirected {
            adv_data: advertised.get(..data).unwrap_or_default(),
            scan_data: named.get(..name).unwrap_or_default(),
        };
        let advertiser = peripheral
            .advertise(&AdvertisementParameters::default(), advertisement)
            .await?;
        let connection = match advertiser.accept().await {
            Ok(connection) => connection.with_attribute_server(server)?,
            // The advertising ended without a peer.
            Err(Error::Timeout) => continue,
            Err(error) => return Err(error.into()),
        };
        handover.link_up();
        let reason = talk(stack, &connection, attributes, handover).await;
        handover.link_down();
        log::info!("the link has ended: {reason:?}");
    }
}

/// One peer, from its connection to its end.
async fn talk<T>(
    stack: &Stack<'_, Hci<T>, DefaultPacketPool>,
    peer: &Peer<'_, '_>,
    attributes: &Attributes,
    handover: &Handover,
) -> Status
where
    T: Transport,
    T::Error: From<ReadHciError<Infallible>> + Debug,
{
    let link = Link {
        stack,
        peer,
        attributes,
        handover,
        answering: Mutex::new(()),
    };
    match select(link.take_writes(), link.carry_out()).await {
        Either::First(reason) => reason,
        Either::Second(never) => never,
    }
}

struct Link<'l, 't, 's, 'v, T> {
    stack: &'l Stack<'t, Hci<T>, DefaultPacketPool>,
    peer: &'l Peer<'s, 'v>,
    attributes: &'l Attributes,
    handover: &'l Handover,
    /// Held from a request until its response is with the host: no notification overtakes it.
    answering: Mutex<NoopRawMutex, ()>,
}

impl<T> Link<'_, '_, '_, '_, T>
where
    T: Transport,
    T::Error: From<ReadHciError<Infallible>> + Debug,
{
    /// Until the link ends.
    async fn take_writes(&self) -> Status {
        loop {
            match self.peer.next().await {
                GattConnectionEvent::Disconnected { reason } => return reason,
                GattConnectionEvent::Gatt { event } => self.handle(event).await,
                GattConnectionEvent::RequestConnectionParams(request) => {
                    if let Err(error) = request.accept(None, self.stack).await {
                        log::info!("the peer's connection parameters are not taken: {error:?}");
                    }
                }
                _ => {}
            }
        }
    }

    async fn carry_out(&self) -> ! {
        loop {
            match self.handover.order().await {
                Order::Notify(channel, bytes) => {
                    let _turn = self.answering.lock().await;
                    self.attributes.notify(self.peer, channel, &bytes).await;
                }
                Order::Hurry => hurry(self.stack, self.peer.raw()).await,
                Order::Disconnect => self.peer.raw().disconnect(),
            }
            self.handover.done();
        }
    }

    /// What the peer wants of an attribute.
    async fn handle(&self, event: GattEvent<'_, '_, DefaultPacketPool>) {
        let is_command = matches!(event.payload().incoming(), AttClient::Command(_));
        let _turn = match is_command {
            true => None,
            false => Some(self.answering.lock().await),
        };
        let taken = match &event {
            GattEvent::Write(write) => self.attributes.take(self.peer, write, is_command, self.handover),
            GattEvent::NotAllowed(_) if is_command => Taken::Refused(AttErrorCode::WRITE_NOT_PERMITTED),
            _ => Taken::ByServer,
        };
        let reply = match (taken, event) {
            // A command has no answer, and what is wrong with it is not told.
            (Taken::Refused(_), event) if is_command => {
                drop(event.into_payload());
                return;
            }
            (Taken::Refused(code), event) => event.reject(code),
            (Taken::ByUs, GattEvent::Write(write)) => write.accept_unprocessed(),
            (_, event) => event.accept(),
        };
        match reply {
            Ok(reply) => reply.send().await,
            Err(error) => log::warn!("a request stays without an answer: {error:?}"),
        }
    }
}

/// Asks for long packets, the 2M PHY and an interval of 15 ms at most. A peer that refuses is slower, and that is all.
async fn hurry<T>(
    stack: &Stack<'_, Hci<T>, DefaultPacketPool>,
    connection: &Connection<'_, DefaultPacketPool>,
) where
    T: Transport,
    T::Error: From<ReadHciError<Infallible>> + Debug,
{
    if let Err(error) = connection
        .update_data_length(stack, LONGEST_PACKET, LONGEST_PACKET_US)
        .await
    {
        log::info!("no long packets: {error:?}");
    }
    if let Err(error) = connection.set_phy(stack, PhyKind::Le2M).await {
        log::info!("no 2M PHY: {error:?}");
    }
    // A short interval is left alone: most peers would answer with the longest one of the wish.
    if connection.params().conn_interval <= FAST_INTERVAL {
        return;
    }
    let wish = RequestedConnParams {
        min_connection_interval: Duration::from_micros(11_250),
        max_connection_interval: FAST_INTERVAL,
        max_latency: 0,
        min_event_length: Duration::from_ticks(0),
        max_event_length: Duration::from_ticks(0),
        supervision_timeout: Duration::from_secs(4),
    };
    if let Err(error) = connection.update_connection_params(stack, &wish).await {
        log::info!("no shorter interval: {error:?}");
    }
}

impl Attributes {
    fn add_to<'v>(table: &mut AttributeTable<'v, NoopRawMutex, ATTRIBUTES>) -> Self {
        let mut gap = table.add_service(Service::new(service::GAP));
        gap.add_characteristic_ro(characteristic::DEVICE_NAME, NAME)
            .build();
        gap.add_characteristic_ro(characteristic::APPEARANCE, &appearance::UNKNOWN)
            .build();
        gap.build();
        // Without Service Changed, iPhones keep a stale table of attributes.
        let mut gatt = table.add_service(Service::new(service::GATT));
        gatt.add_characteristic_small(
            characteristic::SERVICE_CHANGED,
            &[CharacteristicProp::Indicate],
            [0u8; 4],
        )
        .build();
        gatt.build();

        // What is written goes into the inbox, so the attributes themselves hold nothing.
        let mut service = table.add_service(Service::new(SECURE_DFU_SERVICE));
        let requests = [CharacteristicProp::Write, CharacteristicProp::Notify];
        let control_point = service
            .add_characteristic_small(Uuid::from(CONTROL_POINT), &requests, [0u8; 0])
            .to_raw()
            .build();
        let packets = [CharacteristicProp::WriteWithoutResponse];
        let packet = service
            .add_characteristic_small(Uuid::from(PACKET), &packets, [0u8; 0])
            .to_raw()
            .build();
        service.build();
        let mut service = table.add_service(Service::new(Uuid::from(SMP_SERVICE)));
        let both = [
            CharacteristicProp::WriteWithoutResponse,
            CharacteristicProp::Notify,
        ];
        let smp = service
            .add_characteristic_small(Uuid::from(SMP), &both, [0u8; 0])
            .to_raw()
            .build();
        service.build();
        Self {
            control_point,
            packet,
            smp,
        }
    }

    /// Takes a write into the inbox, if it is for one of the services.
    fn take(
        &self,
        peer: &Peer<'_, '_>,
        write: &WriteEvent<'_, '_, DefaultPacketPool>,
        is_command: bool,
        handover: &Handover,
    ) -> Taken {
        let handle = write.handle();
        // Of packets the control point answers.
        let (channel, kind_fits, answers) = if handle == self.control_point.handle {
            (Channel::Control, !is_command, &self.control_point)
        } else if handle == self.packet.handle {
            (Channel::Packet, is_command, &self.control_point)
        } else if handle == self.smp.handle {
            // Some clients write SMP with response.
            (Channel::Smp, true, &self.smp)
        } else {
            return Taken::ByServer;
        };
        if !kind_fits {
            return Taken::Refused(AttErrorCode::WRITE_NOT_PERMITTED);
        }
        if !answers.should_notify(peer) {
            return Taken::Refused(AttErrorCode::CCCD_IMPROPERLY_CONFIGURED);
        }
        match write.with_data(|_, bytes| handover.push(channel, bytes)) {
            Ok(()) => Taken::ByUs,
            Err(PushError::Full | PushError::Lost) => Taken::Refused(AttErrorCode::INSUFFICIENT_RESOURCES),
            Err(PushError::TooLong) => Taken::Refused(AttErrorCode::INVALID_ATTRIBUTE_VALUE_LENGTH),
        }
    }

    /// Hands a notification to the host, in as many parts as the MTU asks for.
    async fn notify(&self, peer: &Peer<'_, '_>, channel: Channel, bytes: &[u8]) {
        let characteristic = match channel {
            Channel::Smp => &self.smp,
            Channel::Control | Channel::Packet => &self.control_point,
        };
        let longest = usize::from(peer.raw().att_mtu())
            .saturating_sub(NOTIFICATION_HEADER)
            .max(1);
        for part in bytes.chunks(longest) {
            if let Err(error) = characteristic.notify(peer, part, false).await {
                log::warn!("an answer was not sent, so the link is closed: {error:?}");
                return peer.raw().disconnect();
            }
        }
    }
}

/// Who takes a write.
enum Taken {
    /// trouble-host: CCCDs.
    ByServer,
    /// The inbox.
    ByUs,
    /// Nobody.
    Refused(AttErrorCode),
}
