// SPDX-License-Identifier: Apache-2.0
//! The Secure DFU client with the behaviour of each library, against a device that follows the reference's rules and
//! can be told to misbehave.

use bledfu_client::secure_dfu::{Client, Error, Package, Part, Settings};
use bledfu_client::{Action, Characteristic, Stage, UpdateClient};
use bledfu_wire::secure_dfu::{op, ObjectType, Reply, Request, ResultCode};
use proptest::prelude::*;

const MAX: usize = 4096;

fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

fn init() -> Vec<u8> {
    (0..139).map(|i| (i * 5 + 1) as u8).collect()
}

fn image(size: usize) -> Vec<u8> {
    (0..size).map(|i| (7 * i + i / 251 + 3) as u8).collect()
}

/// A device with the reference's rules: it executes what is complete, and closes the link after the last Execute.
#[derive(Default)]
struct Device {
    size: usize,
    commands: [Vec<u8>; 2],
    /// Sizes of the open objects.
    open: [usize; 2],
    executed: usize,
    is_valid: bool,
    current: usize,
    receipts: u16,
    since: u16,
    /// Received packets, counted from 1 over the whole test.
    packets: u32,
    /// Control point requests, as hexadecimal digits, and `-` for a new connection.
    log: Vec<String>,

    // Faults.
    lost: Vec<u32>,
    damaged: Vec<u32>,
    /// Refusals, by op code and number of the request, from 1.
    refused: Vec<(u8, u32, ResultCode)>,
    counts: [u32; 16],
    never_answers: Option<u8>,
    closes_at_last_execute: bool,
    stays_open: bool,
    breaks_at_packet: Option<u32>,
}

impl Device {
    fn new(size: usize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    fn connect(&mut self) {
        self.log.push("-".into());
        self.receipts = 0;
        self.since = 0;
        self.current = 0;
        // What was not executed is rolled back, as the reference page requires.
        self.commands[1].truncate(self.executed);
        self.open[1] = 0;
    }

    fn state(&self) -> Reply {
        let held = &self.commands[self.current];
        Reply::Checksum {
            offset: held.len() as u32,
            crc: crc32(held),
        }
    }

    /// The answer, and whether the device closes the link after it.
    fn control(&mut self, bytes: &[u8]) -> (Option<Reply>, bool) {
        self.log
            .push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        let request = Request::decode(bytes).expect("clients send whole requests");
        let opcode = request.opcode();
        self.counts[opcode as usize] += 1;
        let number = self.counts[opcode as usize];
        if self.never_answers == Some(opcode) {
            return (None, false);
        }
        if let Some((_, _, code)) = self
            .refused
            .iter()
            .find(|(op, nth, _)| (*op, *nth) == (opcode, number))
        {
            return (Some(Reply::Refused { opcode, code: *code }), false);
        }
        let refuse = |code| (Some(Reply::Refused { opcode, code }), false);
        match request {
            Request::Select { object } => {
                self.current = object as usize - 1;
                let held = &self.commands[self.current];
                let max_size = if self.current == 0 { 512 } else { MAX as u32 };
                let (offset, crc) = (held.len() as u32, crc32(held));
                (
                    Some(Reply::Selected {
                        max_size,
                        offset,
                        crc,
                    }),
                    false,
                )
            }
            Request::SetReceipts { every } => {
                (self.receipts, self.since) = (every, 0);
                (Some(Reply::ReceiptsSet), false)
            }
            Request::Create { object, size } => {
                self.current = object as usize - 1;
                self.since = 0;
                if object == ObjectType::Command {
                    self.commands = Default::default();
                    (self.executed, self.is_valid) = (0, false);
                } else if !self.is_valid || self.executed + size as usize > self.size {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                let executed = self.executed;
                self.commands[self.current].truncate(if self.current == 0 { 0 } else { executed });
                self.open[self.current] = size as usize;
                (Some(Reply::Created), false)
            }
            Request::Checksum => (Some(self.state()), false),
            Request::Execute if self.current == 0 => {
                if self.commands[0].len() != self.open[0] && !self.is_valid {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                self.is_valid = true;
                (Some(Reply::Executed), false)
            }
            Request::Execute => {
                if self.commands[1].len() - self.executed != self.open[1] {
                    return refuse(ResultCode::OperationNotPermitted);
                }
                self.executed = self.commands[1].len();
                self.open[1] = 0;
                let is_last = self.executed == self.size;
                if is_last && self.closes_at_last_execute {
                    return (None, true);
                }
                (Some(Reply::Executed), is_last && !self.stays_open)
            }
            Request::Abort => (None, true),
            other => panic!("no client sends {other:?}"),
        }
    }

    /// A receipt, and whether the link breaks.
    fn packet(&mut self, bytes: &[u8]) -> (Option<Reply>, bool) {
        self.packets += 1;
        if self.breaks_at_packet == Some(self.packets) {
            return (None, true);
        }
        // A packet dropped for lack of room is not counted, as in the reference.
        if self.lost.contains(&self.packets) {
            return (None, false);
        }
        let held = &mut self.commands[self.current];
        let begin = if self.current == 0 { 0 } else { self.executed };
        if held.len() - begin + bytes.len() <= self.open[self.current] {
            held.extend(bytes);
            if self.damaged.contains(&self.packets) {
                *held.last_mut().expect("not empty") ^= 0x10;
            }
        }
        if self.receipts == 0 {
            return (None, false);
        }
        self.since += 1;
        if self.since < self.receipts {
            return (None, false);
        }
        self.since = 0;
        (Some(self.state()), false)
    }
}

struct Run<'d> {
    device: &'d mut Device,
    now: u64,
    packets: Vec<usize>,
    /// Times at which packets were written.
    times: Vec<u64>,
    stages: Vec<Stage>,
}

impl<'d> Run<'d> {
    fn new(device: &'d mut Device) -> Self {
        Self {
            device,
            now: 1_000,
            packets: Vec::new(),
            times: Vec::new(),
            stages: Vec::new(),
        }
    }

    fn update(&mut self, package: Package<'_>, settings: Settings) -> Result<(), Error> {
        self.run(&mut Client::new(package, settings), 244)
    }

    fn look(&mut self, client: &Client<'_>) {
        let stage = client.progress().stage;
        if self.stages.last() != Some(&stage) {
            self.stages.push(stage);
        }
    }

    fn run(&mut self, client: &mut Client<'_>, payload: usize) -> Result<(), Error> {
        for _ in 0..1_000_000 {
            let (reply, closes) = match client.poll(self.now) {
                Action::Connect { at_ms } => {
                    self.now = self.now.max(at_ms);
                    self.device.connect();
                    client.connected(self.now, payload);
                    (None, false)
                }
                Action::Write {
                    to: Characteristic::ControlPoint,
                    bytes,
                } => self.device.control(bytes),
                Action::Write { bytes, .. } => {
                    assert!(!bytes.is_empty() && bytes.len() <= payload);
                    self.packets.push(bytes.len());
                    self.times.push(self.now);
                    self.device.packet(bytes)
                }
                Action::Wait { until_ms } | Action::Pause { until_ms } => {
                    self.now = until_ms;
                    (None, false)
                }
                Action::Disconnect => (None, true),
                Action::Done => return Ok(()),
                Action::Failed(error) => return Err(error),
            };
            self.look(client);
            if let Some(reply) = reply {
                client.received(self.now, reply.encode().as_bytes());
                self.look(client);
            }
            if closes {
                client.disconnected(self.now);
            }
        }
        panic!(
            "it does not terminate: {:?}",
            &self.device.log[self.device.log.len() - 20..]
        );
    }
}

fn package<'p>(init: &'p [u8], firmware: &'p [u8]) -> Package<'p> {
    Package::of(Part { init, firmware })
}

/// One update of `size` bytes: the control point requests, and the result.
fn update(device: &mut Device, settings: Settings) -> (Vec<String>, Result<(), Error>) {
    let (init, image) = (init(), image(device.size));
    let end = Run::new(device).update(package(&init, &image), settings);
    if end.is_ok() && !device.closes_at_last_execute {
        assert_eq!(device.commands, [init, image], "the device holds what was sent");
    }
    (std::mem::take(&mut device.log), end)
}

fn count(log: &[String], begin: &str) -> usize {
    log.iter().filter(|line| line.starts_with(begin)).count()
}

const REFUSED_08: ResultCode = ResultCode::OperationNotPermitted;

#[test]
fn android_sends_the_requests_of_its_library() {
    let (log, end) = update(&mut Device::new(5000), Settings::android());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "0601",
        "020000",
        "01018b000000",
        "03",
        "04",
        "0602",
        "010200100000",
        "03",
        "04",
        "010288030000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn ios_creates_the_init_packet_before_it_switches_receipts_off_and_has_12_by_default() {
    let (log, end) = update(&mut Device::new(5000), Settings::ios());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "0601",
        "01018b000000",
        "020000",
        "03",
        "04",
        "020c00",
        "0602",
        "010200100000",
        "03",
        "04",
        "010288030000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn nrfutil_sets_its_receipts_before_anything_else() {
    let (log, end) = update(&mut Device::new(4096), Settings::nrfutil());
    assert_eq!(end, Ok(()));
    let expected = [
        "-",
        "020000",
        "0601",
        "01018b000000",
        "03",
        "04",
        "0602",
        "010200100000",
        "03",
        "04",
    ];
    assert_eq!(log, expected);
}

#[test]
fn a_known_init_packet_and_receipts_off_need_no_request_02_from_android() {
    let mut device = Device::new(9000);
    device.breaks_at_packet = Some(25);
    assert_eq!(update(&mut device, Settings::android()).1, Err(Error::LinkLost));
    device.breaks_at_packet = None;
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    // It is unknown whether the last object was executed, so it is executed again.
    assert_eq!(log[..6], ["-", "0601", "04", "0602", "04", "010200100000"]);
    assert_eq!(count(&log, "02"), 0);
}

#[test]
fn packets_are_full_and_on_ios_a_multiple_of_4() {
    for (settings, payload, size) in [
        (Settings::android(), 514, 514),
        (Settings::android(), 20, 20),
        (Settings::ios(), 182, 180),
        (Settings::ios(), 23, 20),
        (Settings::ios(), 3, 1),
    ] {
        let (init, image) = (init(), image(5000));
        let mut device = Device::new(5000);
        let mut run = Run::new(&mut device);
        let mut client = Client::new(package(&init, &image), settings);
        assert_eq!(run.run(&mut client, payload), Ok(()));
        assert_eq!(run.packets.iter().max(), Some(&size.min(4096)));
        assert_eq!(run.packets.iter().sum::<usize>(), 5139);
    }
}

#[test]
fn ios_waits_400_ms_at_the_first_object_only() {
    for (settings, pauses) in [
        (Settings::ios(), [400, 0, 0]),
        (Settings::android(), [0, 0, 0]),
        (
            Settings {
                object_delay_ms: 400,
                ..Settings::android()
            },
            [400, 400, 400],
        ),
        (
            Settings {
                object_delay_ms: 300,
                ..Settings::ios()
            },
            [400, 300, 300],
        ),
    ] {
        let (init, image) = (init(), image(3 * MAX));
        let mut device = Device::new(3 * MAX);
        let mut run = Run::new(&mut device);
        assert_eq!(run.update(package(&init, &image), settings), Ok(()));
        let mut steps: Vec<u64> = run.times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        steps.retain(|&step| step > 0);
        assert_eq!(
            steps,
            pauses.into_iter().filter(|&pause| pause > 0).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_stages_of_an_update_follow_each_other() {
    let (init, image) = (init(), image(5000));
    let mut device = Device::new(5000);
    let mut run = Run::new(&mut device);
    assert_eq!(run.update(package(&init, &image), Settings::android()), Ok(()));
    assert_eq!(
        run.stages,
        [Stage::Preparing, Stage::Sending, Stage::Sent, Stage::Verified]
    );
}

#[test]
fn android_sends_only_the_missing_tail_and_a_receipt_for_each_packet_from_then_on() {
    let mut device = Device::new(3 * MAX);
    // The init packet is one packet and an object 17: these are the last two of the first object.
    device.lost = vec![17, 18];
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 3, "no object is created again: {log:?}");
    assert_eq!(count(&log, "020100"), 1);
    assert_eq!(log[7..12], ["010200100000", "03", "020100", "03", "04"]);
    assert_eq!(device.packets, 1 + 3 * 17 + 2);
}

#[test]
fn android_creates_the_object_again_when_bytes_are_missing_inside_it() {
    let mut device = Device::new(3 * MAX);
    device.lost = vec![5];
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 4);
    assert_eq!(log[7..11], ["010200100000", "03", "020100", "010200100000"]);
}

#[test]
fn android_cannot_repair_a_loss_in_the_last_object() {
    let mut device = Device::new(MAX + 1000);
    device.lost = vec![22];
    let (log, end) = update(&mut device, Settings::android());
    let offset = (MAX + 756) as u32;
    assert_eq!(end, Err(Error::ProgressLost { offset }));
    assert_eq!(
        log.last().map(String::as_str),
        Some("03"),
        "it closes the link without Abort"
    );
}

#[test]
fn the_third_wrong_crc_ends_the_update() {
    for settings in [
        Settings::android(),
        Settings {
            receipts: 0,
            ..Settings::ios()
        },
        Settings::nrfutil(),
    ] {
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![3, 20, 37];
        let (log, end) = update(&mut device, settings);
        assert_eq!(end, Err(Error::BytesLost { offset: MAX as u32 }), "{settings:?}");
        assert_eq!(count(&log, "0102"), 3);
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![3, 20];
        assert_eq!(update(&mut device, settings).1, Ok(()));
        // The init packet has three attempts too.
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![1, 2, 3];
        let (log, end) = update(&mut device, settings);
        assert!(matches!(end, Err(Error::BytesLost { .. })));
        assert_eq!(count(&log, "0101"), 3);
    }
}

#[test]
fn android_stops_at_a_receipt_with_another_crc_and_lets_the_checksum_decide() {
    let settings = Settings {
        receipts: 4,
        ..Settings::android()
    };
    let mut device = Device::new(2 * MAX);
    device.damaged = vec![3];
    let (log, end) = update(&mut device, settings);
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 3);
    // One of the init packet, four up to the receipt, two whole objects.
    assert_eq!(device.packets, 1 + 4 + 2 * 17);
}

#[test]
fn a_lost_packet_makes_android_wait_for_its_receipt_until_the_link_is_closed() {
    let settings = Settings {
        receipts: 4,
        ..Settings::android()
    };
    let (init, image) = (init(), image(2 * MAX));
    let mut device = Device::new(2 * MAX);
    device.lost = vec![3];
    let mut run = Run::new(&mut device);
    let end = run.update(package(&init, &image), settings);
    assert_eq!(end, Err(Error::NoReceipt { sent: 4 * 244 }));
    assert!(run.now >= 121_000, "the device closes an idle link after 120 s");
}

#[test]
fn ios_aborts_when_a_receipt_shows_lost_bytes() {
    let (init, image) = (init(), image(2 * MAX));
    let mut client = Client::new(package(&init, &image), Settings::ios());
    client.connected(0, 244);
    assert_eq!(answer_until_receipt(&mut client, &init), 12);
    let receipt = Reply::Checksum { offset: 244, crc: 0 };
    client.received(0, receipt.encode().as_bytes());
    let abort = Action::Write {
        to: Characteristic::ControlPoint,
        bytes: &[op::ABORT],
    };
    assert_eq!(client.poll(0), abort);
    assert!(
        matches!(client.poll(0), Action::Wait { .. }),
        "the device is to close the link"
    );
    client.disconnected(5);
    assert_eq!(client.poll(5), Action::Failed(Error::BytesLost { offset: 244 }));
}

/// Answers everything up to the first packets of the image; returns how many came before the client waits.
fn answer_until_receipt(client: &mut Client<'_>, init: &[u8]) -> usize {
    let mut packets = 0;
    loop {
        let reply = match client.poll(0) {
            Action::Write {
                to: Characteristic::ControlPoint,
                bytes,
            } => match Request::decode(bytes).expect("a request") {
                Request::Select { .. } => Reply::Selected {
                    max_size: 4096,
                    offset: 0,
                    crc: 0,
                },
                Request::Create { .. } => Reply::Created,
                Request::SetReceipts { .. } => Reply::ReceiptsSet,
                Request::Checksum => Reply::Checksum {
                    offset: init.len() as u32,
                    crc: crc32(init),
                },
                _ => Reply::Executed,
            },
            Action::Write { bytes, .. } => {
                packets += usize::from(bytes.len() == 244);
                continue;
            }
            Action::Pause { until_ms } => {
                let _ = client.poll(until_ms);
                packets += 1;
                continue;
            }
            _ => return packets,
        };
        client.received(0, reply.encode().as_bytes());
    }
}

#[test]
fn ios_executes_a_short_object_with_a_matching_crc_and_fails_later() {
    let mut device = Device::new(3 * MAX);
    device.lost = vec![18];
    let settings = Settings {
        receipts: 0,
        ..Settings::ios()
    };
    let (log, end) = update(&mut device, settings);
    // Execute is answered 08, which the client takes for done; the following bytes are at the wrong offset.
    assert_eq!(log[8..11], ["03", "04", "010200100000"]);
    assert!(matches!(end, Err(Error::BytesLost { .. })), "{end:?}");
    assert_eq!(log.last().map(String::as_str), Some("0c"));
}

#[test]
fn a_link_that_ends_after_the_last_execute_is_a_success_for_ios_only() {
    for (settings, expected) in [
        (Settings::ios(), Ok(())),
        (Settings::android(), Err(Error::LinkLost)),
        (Settings::nrfutil(), Err(Error::LinkLost)),
    ] {
        let mut device = Device::new(5000);
        device.closes_at_last_execute = true;
        assert_eq!(update(&mut device, settings).1, expected);
    }
}

#[test]
fn android_repeats_the_last_execute_after_05_and_then_ignores_every_answer() {
    let mut device = Device::new(5000);
    // The command, the first object, the last.
    device.refused = vec![(op::EXECUTE, 3, ResultCode::InvalidObject)];
    device.stays_open = true;
    let (init, image) = (init(), image(5000));
    let mut run = Run::new(&mut device);
    let end = run.update(package(&init, &image), Settings::android());
    let refused = Error::Refused {
        opcode: op::EXECUTE,
        code: ResultCode::InvalidObject,
    };
    assert_eq!(end, Err(refused));
    assert!(run.now > 121_000);
    assert_eq!(device.log[device.log.len() - 2..], ["04", "04"]);
    for settings in [Settings::ios(), Settings::nrfutil()] {
        let mut device = Device::new(5000);
        device.refused = vec![(op::EXECUTE, 3, ResultCode::InvalidObject)];
        let (log, end) = update(&mut device, settings);
        assert_eq!(end, Err(refused));
        assert_eq!(count(&log, "04"), 3);
    }
}

#[test]
fn not_permitted_is_tolerated_after_a_resume_by_the_phones_and_always_by_ios() {
    for (settings, at_resume, elsewhere) in [
        (Settings::android(), true, false),
        (Settings::ios(), true, true),
        (Settings::nrfutil(), false, false),
    ] {
        let mut device = Device::new(9000);
        device.breaks_at_packet = Some(25);
        assert_eq!(update(&mut device, settings).1, Err(Error::LinkLost));
        device.breaks_at_packet = None;
        device.counts = Default::default();
        device.refused = vec![(op::EXECUTE, 2, REFUSED_08)];
        let end = update(&mut device, settings).1;
        assert_eq!(end.is_ok(), at_resume, "{settings:?}: {end:?}");

        // The object is executed, but the answer says not permitted.
        let (init, image) = (init(), image(2 * MAX));
        let mut client = Client::new(package(&init, &image), settings);
        let mut device = Device::new(2 * MAX);
        device.refused = vec![(op::EXECUTE, 2, REFUSED_08)];
        let end = Run::new(&mut device).run(&mut client, 244);
        if !elsewhere {
            assert!(matches!(end, Err(Error::Refused { .. })), "{settings:?}: {end:?}");
        } else {
            assert!(
                !matches!(end, Err(Error::Refused { .. })),
                "{settings:?}: {end:?}"
            );
        }
    }
}

#[test]
fn only_a_client_with_retries_reconnects_by_itself_and_android_after_10_ms() {
    let mut device = Device::new(9000);
    device.breaks_at_packet = Some(25);
    let settings = Settings {
        retries: 1,
        ..Settings::android()
    };
    let (init, image) = (init(), image(9000));
    let mut client = Client::new(package(&init, &image), settings);
    client.connected(0, 244);
    client.disconnected(500);
    assert_eq!(client.poll(500), Action::Connect { at_ms: 510 });
    client.connected(510, 244);
    client.disconnected(700);
    assert_eq!(client.poll(700), Action::Failed(Error::LinkLost));

    let (log, end) = update(&mut device, settings);
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "-"), 2);
}

#[test]
fn a_missing_answer_is_reported_after_20_s_by_nrfutil_and_later_by_the_phones() {
    for (settings, least, most) in [
        (Settings::nrfutil(), 20_000, 21_000),
        (Settings::android(), 121_000, 600_000),
        (Settings::ios(), 121_000, 600_000),
    ] {
        let (init, image) = (init(), image(5000));
        let mut device = Device::new(5000);
        device.never_answers = Some(op::CHECKSUM);
        let mut run = Run::new(&mut device);
        let end = run.update(package(&init, &image), settings);
        assert_eq!(end, Err(Error::NoAnswer(op::CHECKSUM)));
        assert!((least..most).contains(&(run.now - 1_000)), "{} ms", run.now);
    }
}

#[test]
fn a_device_that_keeps_the_link_open_after_the_update_has_its_own_error() {
    let mut device = Device::new(5000);
    device.stays_open = true;
    assert_eq!(
        update(&mut device, Settings::android()).1,
        Err(Error::LinkStaysOpen)
    );
}

#[test]
fn a_refused_system_part_is_followed_by_the_application_on_the_same_connection() {
    let (system_init, init, image) = (vec![9; 60], init(), image(5000));
    let system = Part {
        init: &system_init,
        firmware: &image,
    };
    let package = Package {
        system: Some(system),
        application: Part {
            init: &init,
            firmware: &image,
        },
    };
    for settings in [Settings::android(), Settings::ios(), Settings::nrfutil()] {
        let mut device = Device::new(5000);
        device.refused = vec![(op::EXECUTE, 1, ResultCode::InvalidObject)];
        assert_eq!(Run::new(&mut device).update(package, settings), Ok(()));
        assert_eq!(count(&device.log, "-"), 1);
        assert_eq!(count(&device.log, "0601"), 2);
        // An init packet that the device holds does not count for the second part.
        assert_eq!(count(&device.log, "0101"), 2);
        assert_eq!(device.commands[0], init);
    }
}

#[test]
fn an_accepted_system_part_is_followed_by_the_application_in_another_connection() {
    let (system_init, init, system_image, image) = (vec![9; 60], init(), image(4000), image(4000));
    let package = Package {
        system: Some(Part {
            init: &system_init,
            firmware: &system_image,
        }),
        application: Part {
            init: &init,
            firmware: &image,
        },
    };
    let mut device = Device::new(4000);
    assert_eq!(Run::new(&mut device).update(package, Settings::android()), Ok(()));
    assert_eq!(count(&device.log, "-"), 2);
    assert_eq!(device.commands, [init, image]);
}

#[test]
fn an_open_object_continues_without_create_and_a_damaged_one_restarts() {
    for known in [MAX + 500, MAX + 488] {
        let (init, image) = (init(), image(3 * MAX));
        let mut client = Client::new(package(&init, &image), Settings::android());
        client.connected(0, 244);
        let log = resume(&mut client, &init, known as u32, crc32(&image[..known]));
        assert_eq!(log[3..6], ["03", "04", "010200100000"], "{known}");
    }
    for known in [MAX + 500, 2 * MAX, 5 * MAX] {
        let (init, image) = (init(), image(3 * MAX));
        let mut client = Client::new(package(&init, &image), Settings::android());
        client.connected(0, 244);
        let log = resume(&mut client, &init, known as u32, 0x1234);
        assert_eq!(log[3], "010200100000", "no Execute for damaged bytes: {known}");
        let begin = if known > 2 * MAX { 2 * MAX } else { MAX };
        assert_eq!(client.progress().resumed_at as usize, begin, "{known}");
    }
}

/// Answers like a device that holds the init packet and this much of the image; returns the requests.
fn resume(client: &mut Client<'_>, init: &[u8], offset: u32, crc: u32) -> Vec<String> {
    let mut log: Vec<String> = Vec::new();
    while log.len() < 6 {
        let reply = match client.poll(0) {
            Action::Write {
                to: Characteristic::ControlPoint,
                bytes,
            } => {
                log.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
                match Request::decode(bytes).expect("a request") {
                    Request::Select {
                        object: ObjectType::Command,
                    } => Reply::Selected {
                        max_size: 512,
                        offset: init.len() as u32,
                        crc: crc32(init),
                    },
                    Request::Select { .. } => Reply::Selected {
                        max_size: MAX as u32,
                        offset,
                        crc,
                    },
                    Request::Checksum => {
                        let end = 2 * MAX;
                        Reply::Checksum {
                            offset: end as u32,
                            crc: crc32(&image(3 * MAX)[..end]),
                        }
                    }
                    Request::Create { .. } => Reply::Created,
                    Request::SetReceipts { .. } => Reply::ReceiptsSet,
                    _ => Reply::Executed,
                }
            }
            Action::Write { .. } => continue,
            _ => break,
        };
        client.received(0, reply.encode().as_bytes());
    }
    log.resize(6, String::new());
    log
}

#[test]
fn an_unsolicited_receipt_is_an_error() {
    let (init, image) = (init(), image(5000));
    let mut client = Client::new(package(&init, &image), Settings::android());
    client.connected(0, 244);
    let _ = client.poll(0);
    let receipt = Reply::Checksum { offset: 0, crc: 0 };
    client.received(0, receipt.encode().as_bytes());
    assert_eq!(client.poll(0), Action::Disconnect);
    client.disconnected(1);
    assert_eq!(client.poll(1), Action::Failed(Error::Unexpected(op::SELECT)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_client_terminates_whatever_the_device_answers(
        events in prop::collection::vec((0..8_u8, prop::collection::vec(any::<u8>(), 0..20), any::<u32>()), 0..200),
        which in 0..3_usize,
        size in 0..10_000_usize,
        retries in 0..3_u8,
    ) {
        let settings = [Settings::android(), Settings::ios(), Settings::nrfutil()][which];
        let settings = Settings { retries, receipts: size as u16 % 5, ..settings };
        let (init, image) = (init(), image(size));
        let mut client = Client::new(package(&init, &image), settings);
        let mut now = 0_u64;
        for (event, bytes, number) in events {
            let last = match client.poll(now) {
                Action::Write { to: Characteristic::ControlPoint, bytes } => bytes.first().copied(),
                _ => None,
            };
            match event {
                0 => client.connected(now, number as usize % 600),
                1 => client.disconnected(now),
                2 => client.received(now, &bytes),
                3 => now += u64::from(number % 200_000),
                // Something like an answer, with any numbers.
                _ => {
                    let success = [&[0x60, last.unwrap_or(3), 1][..], &number.to_le_bytes(), &[0; 8]].concat();
                    client.received(now, &success);
                }
            }
        }
        for _ in 0..10_000 {
            match client.poll(now) {
                Action::Wait { until_ms } | Action::Pause { until_ms } => now = now.max(until_ms),
                Action::Disconnect => client.disconnected(now),
                Action::Connect { at_ms } => {
                    now = now.max(at_ms);
                    client.connected(now, 20);
                    client.disconnected(now);
                }
                Action::Write { .. } => {}
                Action::Done | Action::Failed(_) => return Ok(()),
            }
        }
        prop_assert!(false, "it does not terminate");
    }
}
