// SPDX-License-Identifier: Apache-2.0
//! The SMP client with the behaviour of each application, against a server that can be told to misbehave.

use bledfu_client::smp::{Buffers, Client, Error, Image, Mode, Settings, MAX_WINDOW};
use bledfu_client::{Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_wire::image_group::{self, ImageState};
use bledfu_wire::os_group;
use bledfu_wire::smp::{self, encode, Code, Context, Failure, Header, Request, Response};
use proptest::prelude::*;
use std::collections::VecDeque;

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];
const OTHER: [u8; 32] = [3; 32];
const BUF_SIZE: u32 = 600;

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|i| (7 * i + i / 251 + 3) as u8).collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Slot {
    hash: [u8; 32],
    pending: bool,
    confirmed: bool,
    permanent: bool,
}

/// A server with one image. It answers a request 10 ms after it has received it whole.
#[derive(Default)]
struct Server {
    running: Slot,
    waiting: Option<Slot>,
    held: Vec<u8>,
    length: Option<usize>,
    sha: Option<Vec<u8>>,
    /// The received requests, one line each, without data.
    log: Vec<String>,
    /// When they were received.
    times: Vec<u64>,
    frames: Vec<usize>,
    sequences: Vec<u8>,
    resets: usize,

    // Faults. Requests are counted from 1 over the whole test.
    count: usize,
    lost: Vec<usize>,
    /// Answers that are lost.
    unanswered: Vec<usize>,
    refused: Vec<(usize, Failure)>,
    breaks_at: Vec<usize>,
    /// The session is forgotten when the link breaks, as after a reset.
    forgets: bool,
    never_moves: bool,
    never_closes: bool,
    says_match: Option<bool>,
    reverts: bool,
    delay_ms: Vec<(usize, u64)>,
}

impl Server {
    fn new() -> Self {
        Self {
            running: Slot {
                hash: OLD,
                confirmed: true,
                ..Slot::default()
            },
            ..Self::default()
        }
    }

    fn images(&self) -> Vec<ImageState<'static>> {
        let state = |slot: u8, of: Slot| ImageState {
            slot,
            version: "1.0.0",
            hash: of.hash,
            bootable: true,
            pending: of.pending,
            confirmed: of.confirmed,
            active: slot == 0,
            permanent: of.permanent,
        };
        let running = state(0, self.running);
        let waiting = self.waiting.map(|waiting| state(1, waiting));
        [Some(running), waiting].into_iter().flatten().collect()
    }

    fn boot(&mut self) {
        self.resets += 1;
        self.length = None;
        match &mut self.waiting {
            Some(waiting) if waiting.pending && !self.reverts => {
                let old = std::mem::replace(&mut self.running, *waiting);
                self.running.confirmed = self.running.permanent;
                (self.running.pending, self.running.permanent) = (false, false);
                *waiting = Slot {
                    hash: old.hash,
                    confirmed: !self.running.confirmed,
                    ..Slot::default()
                };
            }
            Some(waiting) if waiting.pending => waiting.pending = false,
            // Not confirmed: back to the previous image.
            Some(waiting) if !self.running.confirmed => {
                std::mem::swap(waiting, &mut self.running);
                waiting.confirmed = false;
                self.running.confirmed = true;
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        self.log.push("-".into());
        self.times.push(0);
        if self.forgets && self.waiting.is_none() {
            self.length = None;
            self.held.clear();
        }
    }

    /// The answer, and whether the device resets after it.
    fn request(&mut self, frame: &[u8], now: u64) -> Option<(Vec<u8>, bool)> {
        let message = smp::decode(frame).expect("a header");
        self.count += 1;
        self.frames.push(frame.len());
        self.sequences.push(message.context.sequence);
        self.times.push(now);
        self.log.push(line_of(&message));
        if self.lost.contains(&self.count) {
            return None;
        }
        let mut resets = false;
        let images;
        let response = match message.request {
            Err(code) => Response::Failed(Failure::Smp(code)),
            Ok(Request::Os(request)) => match request {
                os_group::Request::Parameters => Response::Os(os_group::Response::Parameters {
                    buf_size: BUF_SIZE,
                    buf_count: 4,
                }),
                os_group::Request::Reset { .. } => {
                    resets = true;
                    Response::Empty
                }
                os_group::Request::BootloaderInfo { query: None } => {
                    Response::Os(os_group::Response::Bootloader { name: "MCUboot" })
                }
                os_group::Request::BootloaderInfo { query: Some("mode") } => {
                    Response::Os(os_group::Response::Mode {
                        mode: 9,
                        no_downgrade: false,
                    })
                }
                _ => Response::Failed(Failure::Smp(Code::NotSupported)),
            },
            Ok(Request::Image(request)) => match self.image_request(request) {
                Some(response) => response,
                None => {
                    images = self.images();
                    Response::Image(image_group::Response::State(&images))
                }
            },
        };
        let refused = self.refused.iter().find(|(at, _)| *at == self.count);
        let response = refused.map_or(response, |(_, failure)| Response::Failed(*failure));
        let mut out = [0; 600];
        let length = encode(&message.context, &response, &mut out);
        let unanswered = self.unanswered.contains(&self.count);
        (!unanswered).then(|| (out[..length].to_vec(), resets))
    }

    /// `None`: the list of images.
    fn image_request(&mut self, request: image_group::Request<'_>) -> Option<Response<'static>> {
        match request {
            image_group::Request::ReadState => None,
            image_group::Request::WriteState { hash, confirm } => {
                let hash: [u8; 32] = hash.expect("clients name an image").try_into().expect("32 bytes");
                if self.running.hash == hash && confirm {
                    self.running.confirmed = true;
                    None
                } else if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.hash == hash) {
                    // Confirming the image to go back to changes nothing.
                    if self.running.confirmed {
                        (waiting.pending, waiting.permanent) = (true, confirm);
                    }
                    None
                } else {
                    let error = Failure::Image(image_group::Error::HashNotFound);
                    Some(Response::Failed(error))
                }
            }
            image_group::Request::Upload(piece) => {
                let offset = piece.offset.expect("clients name an offset") as usize;
                if offset == 0 && (self.length.is_none() || self.sha.as_deref() != piece.sha) {
                    self.held.clear();
                    self.length = piece.length.map(|length| length as usize);
                    self.sha = piece.sha.map(<[u8]>::to_vec);
                }
                if offset == self.held.len() && self.length.is_some() && !self.never_moves {
                    self.held.extend(piece.data);
                }
                let is_whole = self.length == Some(self.held.len());
                if is_whole {
                    self.waiting = Some(Slot {
                        hash: NEW,
                        ..Slot::default()
                    });
                }
                let matches = is_whole.then_some(self.says_match.unwrap_or(true));
                let offset = if self.length.is_some() { self.held.len() } else { 0 };
                Some(Response::Image(image_group::Response::Upload {
                    offset: offset as u32,
                    matches: matches.filter(|_| self.sha.is_some()),
                }))
            }
            other => panic!("no client sends {other:?}"),
        }
    }
}

/// A request in the log.
fn line_of(message: &smp::Message<'_>) -> String {
    match message.request {
        Err(_) => format!("group {}", message.context.group),
        Ok(Request::Os(request)) => format!("{request:?}"),
        Ok(Request::Image(image_group::Request::ReadState)) => "list".to_owned(),
        Ok(Request::Image(image_group::Request::WriteState { hash, confirm })) => {
            let mark = if confirm { "confirm" } else { "test" };
            format!("{mark} {}", hash.map_or(0, |hash| hash[0]))
        }
        Ok(Request::Image(image_group::Request::Upload(piece))) => {
            let offset = piece.offset.expect("clients name an offset");
            let length = if piece.length.is_some() { " len" } else { "" };
            let sha = if piece.sha.is_some() { " sha" } else { "" };
            format!("piece {offset}{length}{sha}")
        }
        Ok(other) => panic!("no client sends {other:?}"),
    }
}

struct Outcome {
    end: Result<(), Error>,
    now: u64,
    progress: Progress,
    most_under_way: usize,
}

/// Runs a client on a link of `payload` bytes.
fn run(server: &mut Server, settings: Settings, image: &[u8], payload: usize) -> Outcome {
    let (mut request, mut answer) = ([0; 1024], [0; 1024]);
    let buffers = Buffers {
        request: &mut request,
        answer: &mut answer,
    };
    let image = Image {
        bytes: image,
        sha: [7; 32],
        hash: NEW,
    };
    let mut client = Client::new(image, settings, buffers);
    let (mut now, mut most_under_way) = (1_000, 0);
    let mut frame: Vec<u8> = Vec::new();
    let mut answers: VecDeque<(u64, Vec<u8>, bool)> = VecDeque::new();
    let mut is_open = false;
    for _ in 0..1_000_000 {
        // Handles what is due by now.
        let mut closes = false;
        while is_open && answers.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, bytes, resets) = answers.pop_front().expect("looked at");
            for fragment in bytes.chunks(payload) {
                client.received(now, fragment);
            }
            if resets {
                server.boot();
                closes = !server.never_closes;
            }
        }
        if closes {
            (is_open, frame) = (false, Vec::new());
            answers.clear();
            client.disconnected(now);
        }
        let progress = client.progress();
        let end = match client.poll(now) {
            Action::Connect { at_ms } => {
                now = now.max(at_ms);
                server.connect();
                is_open = true;
                client.connected(now, payload);
                continue;
            }
            Action::Write { to, bytes } => {
                assert_eq!(to, Characteristic::Smp);
                assert!(!bytes.is_empty() && bytes.len() <= payload);
                frame.extend(bytes);
                if Header::decode(&frame).is_some_and(|header| header.frame_length() == frame.len()) {
                    let whole = std::mem::take(&mut frame);
                    let answer = server.request(&whole, now);
                    if server.breaks_at.contains(&server.count) {
                        is_open = false;
                        answers.clear();
                        client.disconnected(now);
                        continue;
                    }
                    let delay = server.delay_ms.iter().find(|(at, _)| *at == server.count);
                    let at = now + delay.map_or(10, |(_, delay)| *delay);
                    if let Some((bytes, resets)) = answer {
                        answers.push_back((at, bytes, resets));
                        answers.make_contiguous().sort_by_key(|(at, ..)| *at);
                    }
                    most_under_way = most_under_way.max(answers.len());
                }
                continue;
            }
            Action::Wait { until_ms } | Action::Pause { until_ms } => {
                let next = answers.front().map_or(u64::MAX, |(at, ..)| *at);
                now = until_ms.min(next.max(now));
                continue;
            }
            Action::Disconnect => {
                is_open = false;
                client.disconnected(now);
                continue;
            }
            Action::Done => Ok(()),
            Action::Failed(error) => Err(error),
        };
        return Outcome {
            end,
            now,
            progress,
            most_under_way,
        };
    }
    panic!(
        "it does not terminate: {:?}",
        &server.log[server.log.len() - 20..]
    );
}

fn update(server: &mut Server, settings: Settings) -> Outcome {
    run(server, settings, &bytes(6_000), 244)
}

fn pieces(server: &Server) -> Vec<&str> {
    let lines = server.log.iter().map(String::as_str);
    lines.filter(|line| line.starts_with("piece")).collect()
}

/// The times between the requests `from..=to`, counted from 1, leaving out those of new connections.
fn gap(server: &Server, from: usize, to: usize) -> u64 {
    let times: Vec<u64> = server.times.iter().copied().filter(|&time| time > 0).collect();
    times[to - 1] - times[from - 1]
}

/// The number of the first piece among the requests, from 1.
fn first_piece(settings: Settings) -> usize {
    let mut server = Server::new();
    update(&mut server, settings);
    let requests = server.log.iter().filter(|line| *line != "-");
    1 + requests.take_while(|line| !line.starts_with("piece")).count()
}

#[test]
fn android_asks_tests_resets_and_confirms_in_this_order() {
    let mut server = Server::new();
    let outcome = update(&mut server, Settings::android());
    assert_eq!(outcome.end, Ok(()));
    assert_eq!(server.sequences[0], 0xFF);
    let mut log = server.log.clone();
    log.retain(|line| !line.starts_with("piece") || line.starts_with("piece 0"));
    let expected = [
        "-",
        "Parameters",
        "Parameters",
        "Info { format: \"sv\" }",
        "group 128",
        "BootloaderInfo { query: None }",
        "BootloaderInfo { query: Some(\"active_b0_slot\") }",
        "BootloaderInfo { query: Some(\"mode\") }",
        "BootloaderInfo { query: None }",
        "BootloaderInfo { query: Some(\"mode\") }",
        "list",
        "piece 0 len sha",
        "test 2",
        "Reset { force: false, boot_mode: None }",
        "-",
        "Parameters",
        "confirm 2",
    ];
    assert_eq!(log, expected);
    assert!(server.held == bytes(6_000));
    assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
    assert_eq!(outcome.progress.stage, Stage::Verified);
    assert_eq!(outcome.progress.held, 6_000);
}

#[test]
fn ios_and_smpclient_list_the_images_before_they_confirm() {
    for settings in [Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log[server.log.len() - 2..], ["list", "confirm 2"]);
        assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
    }
}

#[test]
fn every_mode_marks_the_image_as_chosen() {
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        for (mode, marked, running, confirmed) in [
            (Mode::TestOnly, "test 2", NEW, false),
            (Mode::ConfirmOnly, "confirm 2", NEW, true),
            (Mode::UploadOnly, "", OLD, true),
        ] {
            let mut server = Server::new();
            let settings = Settings { mode, ..settings };
            assert_eq!(update(&mut server, settings).end, Ok(()));
            assert_eq!(server.log.iter().any(|line| line == marked), !marked.is_empty());
            assert_eq!(
                (server.running.hash, server.running.confirmed),
                (running, confirmed)
            );
            assert_eq!(server.resets, 1);
        }
    }
}

#[test]
fn frames_are_as_long_as_the_server_accepts_and_cut_into_writes() {
    for (settings, longest) in [
        (Settings::android(), BUF_SIZE as usize),
        (Settings::smpclient(), BUF_SIZE as usize),
        (Settings::ios(), BUF_SIZE as usize - 5),
    ] {
        let mut server = Server::new();
        assert_eq!(run(&mut server, settings, &bytes(6_000), 20).end, Ok(()));
        let most = server.frames.iter().max().copied().unwrap();
        assert!(most <= longest && most > longest - 4, "{most} of {longest}");
    }
}

#[test]
fn no_more_pieces_are_in_flight_than_the_window_allows() {
    for window in [1, 3, 8, MAX_WINDOW as u8] {
        for settings in [Settings::android(), Settings::ios()] {
            let settings = Settings { window, ..settings };
            let mut server = Server::new();
            let outcome = run(&mut server, settings, &bytes(60_000), 244);
            assert_eq!(outcome.end, Ok(()));
            assert_eq!(outcome.most_under_way, usize::from(window), "{settings:?}");
        }
    }
}

#[test]
fn android_repeats_a_piece_after_two_and_a_half_seconds_with_another_sequence_number() {
    let settings = Settings {
        window: 1,
        ..Settings::android()
    };
    let at = first_piece(settings) + 3;
    let mut server = Server::new();
    server.lost = vec![at];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(gap(&server, at, at + 1), 2_500);
    assert_eq!(server.log[at], server.log[at + 1]);
    assert_ne!(server.sequences[at - 1], server.sequences[at]);
    assert!(server.held == bytes(6_000));
}

#[test]
fn android_waits_20_s_for_the_last_piece_of_a_window() {
    let settings = Settings::android();
    let mut server = Server::new();
    update(&mut server, settings);
    let at = first_piece(settings) + pieces(&server).len() - 1;
    for (settings, patience) in [
        (settings, 20_000),
        (
            Settings {
                window: 1,
                ..settings
            },
            2_500,
        ),
    ] {
        let mut server = Server::new();
        server.lost = vec![at];
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(gap(&server, at, at + 1), patience);
    }
}

#[test]
fn android_gives_up_at_the_fifth_failure_of_one_piece() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    server.lost = (at + 2..at + 20).collect();
    let end = update(&mut server, Settings::android()).end;
    assert_eq!(end, Err(Error::Silent("a piece of the image")));
    let mut server = Server::new();
    let failure = Failure::Image(image_group::Error::InvalidImageTooLarge);
    server.refused = (at..at + 20).map(|at| (at, failure)).collect();
    let refused = Error::Refused {
        request: "the first piece of the image",
        error: failure.into(),
    };
    assert_eq!(update(&mut server, Settings::android()).end, Err(refused));
    assert_eq!(pieces(&server), ["piece 0 len sha"; 5]);
    // The other pieces tolerate the first refusal.
    for settings in [Settings::ios(), Settings::smpclient()] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.refused = vec![(at, failure)];
        assert_eq!(update(&mut server, settings).end, Err(refused));
        assert_eq!(pieces(&server).len(), 1);
    }
}

#[test]
fn android_resends_from_the_byte_that_an_answer_names() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    // The second piece of a window of three.
    server.lost = vec![at + 2];
    let outcome = update(&mut server, Settings::android());
    assert_eq!(outcome.end, Ok(()));
    assert!(server.held == bytes(6_000));
    // The third was answered with the offset of the second: no waiting for a timeout.
    assert!(outcome.now < 10_000, "{} ms", outcome.now);
}

#[test]
fn android_continues_after_a_lost_link_without_length_and_sha() {
    for settings in [
        Settings::android(),
        Settings {
            window: 1,
            ..Settings::android()
        },
    ] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.breaks_at = vec![at + 4];
        let outcome = update(&mut server, settings);
        assert_eq!(outcome.end, Ok(()));
        assert!(server.held == bytes(6_000));
        let back = 1 + server.log.iter().skip(1).position(|line| line == "-").unwrap();
        assert_eq!(server.log[back + 1], "Parameters", "its transport asks first");
        let piece = &server.log[back + 2];
        assert!(piece.starts_with("piece ") && !piece.contains("len"), "{piece}");
        assert_eq!(
            pieces(&server).iter().filter(|line| line.contains("sha")).count(),
            1
        );
        assert!(
            outcome.progress.resumed_at > 1_500,
            "{}",
            outcome.progress.resumed_at
        );
    }
}

#[test]
fn a_forgotten_upload_restarts_with_length_and_sha() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    server.breaks_at = vec![at + 4];
    server.forgets = true;
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    assert_eq!(
        pieces(&server)
            .iter()
            .filter(|line| **line == "piece 0 len sha")
            .count(),
        2
    );
    assert!(server.held == bytes(6_000));
}

#[test]
fn the_other_clients_leave_a_lost_link_to_the_user() {
    for settings in [Settings::ios(), Settings::smpclient()] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.breaks_at = vec![at + 4];
        assert_eq!(update(&mut server, settings).end, Err(Error::LinkLost));
        // Restarted, they continue where the server is.
        let outcome = update(&mut server, settings);
        assert_eq!(outcome.end, Ok(()));
        assert!(outcome.progress.resumed_at > 1_500);
        assert!(server.held == bytes(6_000));
    }
}

#[test]
fn ios_repeats_a_piece_after_10_s_and_10_s_more_with_the_same_sequence_number() {
    let settings = Settings {
        window: 1,
        ..Settings::ios()
    };
    let at = first_piece(settings) + 2;
    let mut server = Server::new();
    server.lost = vec![at, at + 1];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(
        (gap(&server, at, at + 1), gap(&server, at + 1, at + 2)),
        (20_000, 20_000)
    );
    assert_eq!(server.sequences[at - 1], server.sequences[at + 1]);
    let mut server = Server::new();
    server.lost = vec![at, at + 1, at + 2];
    let end = update(&mut server, settings).end;
    assert_eq!(end, Err(Error::Silent("a piece of the image")));
    // It does so with every request.
    let mut server = Server::new();
    let list = first_piece(settings) - 1;
    server.lost = vec![list];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(gap(&server, list, list + 1), 50_000);
}

#[test]
fn ios_waits_for_all_answers_before_it_rewinds() {
    let settings = Settings::ios();
    let at = first_piece(settings);
    let mut server = Server::new();
    server.unanswered = vec![at + 2];
    server.lost = vec![at + 1];
    let outcome = update(&mut server, settings);
    assert_eq!(outcome.end, Ok(()));
    assert!(server.held == bytes(6_000));
    // Nothing is sent between the window with the loss and the repetition 20 s later.
    assert!(gap(&server, at + 3, at + 4) >= 19_000, "{:?}", server.times);
}

#[test]
fn smpclient_sends_one_piece_at_a_time_and_restarts_without_sha() {
    let settings = Settings::smpclient();
    let at = first_piece(settings);
    let mut server = Server::new();
    let outcome = update(&mut server, settings);
    assert_eq!((outcome.end, outcome.most_under_way), (Ok(()), 1));

    // The server forgets the upload halfway.
    let (mut request, mut answer) = ([0; 1024], [0; 1024]);
    let buffers = Buffers {
        request: &mut request,
        answer: &mut answer,
    };
    let image = bytes(6_000);
    let image = Image {
        bytes: &image,
        sha: [7; 32],
        hash: NEW,
    };
    let mut client = Client::new(image, settings, buffers);
    client.connected(0, 600);
    let mut server = Server::new();
    for count in 1.. {
        if let Action::Write { bytes, .. } = client.poll(0) {
            let frame = bytes.to_vec();
            if count == at + 3 {
                server.length = None;
            }
            let (answer, _) = server.request(&frame, 0).unwrap();
            client.received(0, &answer);
        }
        if count == at + 4 {
            break;
        }
    }
    assert_eq!(server.log.last().map(String::as_str), Some("piece 0 len"));
}

#[test]
fn smpclient_fails_on_silence_and_on_a_late_answer() {
    let settings = Settings::smpclient();
    let at = first_piece(settings) + 2;
    let mut server = Server::new();
    server.lost = vec![at];
    let outcome = update(&mut server, settings);
    assert_eq!(outcome.end, Err(Error::Silent("a piece of the image")));
    assert!(outcome.now < 5_000);

    // An answer to another request than the one in flight.
    for (settings, expected) in [
        (Settings::smpclient(), Action::Disconnect),
        (Settings::ios(), Action::Wait { until_ms: 40_000 }),
    ] {
        let (mut request, mut answer) = ([0; 1024], [0; 1024]);
        let buffers = Buffers {
            request: &mut request,
            answer: &mut answer,
        };
        let image = Image {
            bytes: &[],
            sha: [7; 32],
            hash: NEW,
        };
        let mut client = Client::new(image, settings, buffers);
        client.connected(0, 498);
        let Action::Write { bytes, .. } = client.poll(0) else {
            panic!("a request");
        };
        let asked = Header::decode(bytes).unwrap();
        let context = Context {
            sequence: asked.sequence.wrapping_add(9),
            ..Context::of(&asked)
        };
        let mut out = [0; 100];
        let length = encode(&context, &Response::Empty, &mut out);
        client.received(0, &out[..length]);
        assert_eq!(client.poll(0), expected);
    }
}

#[test]
fn the_first_request_of_android_may_stay_unanswered() {
    let mut server = Server::new();
    server.lost = vec![1];
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    assert_eq!(gap(&server, 1, 2), 1_000);
}

#[test]
fn an_unanswered_reset_is_tolerated_by_android_only() {
    for (settings, expected) in [
        (Settings::android(), Ok(())),
        (Settings::ios(), Err(Error::LinkLost)),
        (Settings::smpclient(), Err(Error::LinkLost)),
    ] {
        let mut server = Server::new();
        update(&mut server, settings);
        let requests = server.log.iter().filter(|line| *line != "-");
        let reset = 1 + requests
            .clone()
            .position(|line| line.starts_with("Reset"))
            .unwrap();
        let mut server = Server::new();
        server.breaks_at = vec![reset];
        // The device resets, but the link is gone before it has answered.
        let settings = Settings {
            mode: Mode::TestOnly,
            ..settings
        };
        assert_eq!(update(&mut server, settings).end, expected, "{settings:?}");
    }
}

#[test]
fn a_device_that_keeps_the_link_open_after_a_reset_has_its_own_error() {
    let mut server = Server::new();
    server.never_closes = true;
    assert_eq!(
        update(&mut server, Settings::android()).end,
        Err(Error::LinkStaysOpen)
    );
}

#[test]
fn an_image_that_the_device_holds_is_not_sent_again() {
    let waits = Slot {
        hash: NEW,
        ..Slot::default()
    };
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        server.waiting = Some(waits);
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert!(pieces(&server).is_empty());
        assert!(server.running.confirmed && server.running.hash == NEW);
        // It is running already.
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log.last().map(String::as_str), Some("list"));
        // It is marked already: it is installed first.
        let mut server = Server::new();
        server.waiting = Some(Slot {
            pending: true,
            ..waits
        });
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert!(pieces(&server).is_empty());
        assert_eq!(
            (server.running.hash, server.running.confirmed, server.resets),
            (NEW, true, 1)
        );
    }
}

#[test]
fn the_same_image_on_trial_is_only_confirmed() {
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        server.running = Slot {
            hash: NEW,
            ..Slot::default()
        };
        server.waiting = Some(Slot {
            hash: OLD,
            confirmed: true,
            ..Slot::default()
        });
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log[server.log.len() - 2..], ["list", "confirm 2"]);
        assert_eq!(server.resets, 0);
    }
}

#[test]
fn android_resets_another_image_on_trial_and_ios_confirms_the_previous_one() {
    let on_trial = || {
        let mut server = Server::new();
        server.running = Slot {
            hash: OTHER,
            ..Slot::default()
        };
        server.waiting = Some(Slot {
            hash: OLD,
            confirmed: true,
            ..Slot::default()
        });
        server
    };
    let mut server = on_trial();
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    let after_list = server.log.iter().position(|line| line == "list").unwrap() + 1;
    assert!(server.log[after_list].starts_with("Reset"));
    assert_eq!(server.running.hash, NEW);

    let mut server = on_trial();
    update(&mut server, Settings::ios()).end.ok();
    let after_list = server.log.iter().position(|line| line == "list").unwrap() + 1;
    assert_eq!(server.log[after_list], "confirm 1");
    assert_eq!(server.log[after_list + 1], "piece 0 len sha");

    let mut server = on_trial();
    assert_eq!(update(&mut server, Settings::smpclient()).end, Ok(()));
    assert!(server.log.iter().any(|line| line == "confirm 3"));
    assert_eq!(server.running.hash, NEW);
}

#[test]
fn an_image_that_is_taken_back_is_retried_but_not_forever() {
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        server.reverts = true;
        let end = update(&mut server, settings).end;
        assert!(end.is_err());
        assert!((2..20).contains(&server.resets), "{} resets", server.resets);
    }
}

#[test]
fn a_server_without_progress_is_reported_as_stuck() {
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        server.never_moves = true;
        assert_eq!(update(&mut server, settings).end, Err(Error::Stuck { offset: 0 }));
        assert!(pieces(&server).len() < 60);
    }
}

#[test]
fn a_wrong_digest_is_a_failure() {
    for settings in [Settings::android(), Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        server.says_match = Some(false);
        assert_eq!(update(&mut server, settings).end, Err(Error::WrongDigest));
    }
}

#[test]
fn a_link_too_small_for_a_piece_has_its_own_error() {
    let image = bytes(500);
    let (mut request, mut answer) = ([0; 60], [0; 600]);
    let image = Image {
        bytes: &image,
        sha: [7; 32],
        hash: NEW,
    };
    let buffers = Buffers {
        request: &mut request,
        answer: &mut answer,
    };
    let mut client = Client::new(image, Settings::smpclient(), buffers);
    client.connected(0, 20);
    let mut server = Server::new();
    let mut frame = Vec::new();
    for _ in 0..100 {
        match client.poll(0) {
            Action::Write { bytes, .. } => frame.extend(bytes),
            Action::Disconnect => client.disconnected(0),
            Action::Failed(error) => return assert_eq!(error, Error::FrameTooSmall),
            _ => {
                let (answer, _) = server.request(&std::mem::take(&mut frame), 0).unwrap();
                client.received(0, &answer);
            }
        }
    }
    panic!("it does not terminate");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_completes_whatever_gets_lost(
        lost in prop::collection::btree_set(1..60_usize, 0..6),
        unanswered in prop::collection::btree_set(1..60_usize, 0..6),
        breaks_at in prop::collection::btree_set(1..60_usize, 0..3),
        forgets in any::<bool>(),
        window in 1..9_u8,
        which in 0..3_usize,
        payload in prop_oneof![Just(20_usize), 60..600_usize],
        size in 0..9_000_usize,
    ) {
        let settings = [Settings::android(), Settings::ios(), Settings::smpclient()][which];
        let settings = Settings { window: if which == 2 { 1 } else { window }, ..settings };
        let image = bytes(size);
        let mut server = Server::new();
        server.lost = lost.into_iter().collect();
        server.unanswered = unanswered.into_iter().collect();
        server.breaks_at = breaks_at.into_iter().collect();
        server.forgets = forgets;
        // The user starts again as often as necessary: each fault happens once.
        for _ in 0..16 {
            match run(&mut server, settings, &image, payload).end {
                Ok(()) => {
                    prop_assert!(server.held == image);
                    prop_assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
                    return Ok(());
                }
                Err(Error::Silent(_) | Error::LinkLost | Error::LinkStaysOpen | Error::OddAnswer(_) | Error::FrameTooSmall) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert!(false, "it never completes: {:?}", server.log);
    }

    #[test]
    fn the_client_terminates_whatever_the_server_answers(
        events in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..40), any::<u32>()), 0..200),
        which in 0..3_usize,
        size in 0..3_000_usize,
    ) {
        let settings = [Settings::android(), Settings::ios(), Settings::smpclient()][which];
        let (mut request, mut answer) = ([0; 300], [0; 300]);
        let buffers = Buffers { request: &mut request, answer: &mut answer };
        let image = bytes(size);
        let image = Image { bytes: &image, sha: [7; 32], hash: NEW };
        let mut client = Client::new(image, settings, buffers);
        let mut now = 0_u64;
        let mut server = Server::new();
        let mut frame = Vec::new();
        for (event, bytes, number) in events {
            if let Action::Write { bytes, .. } = client.poll(now) {
                frame.extend(bytes);
            }
            match event {
                0 if number % 4 == 0 => client.connected(now, number as usize % 600),
                1 if number % 8 == 0 => client.disconnected(now),
                2 => client.received(now, &bytes),
                3 => now += u64::from(number % 100_000),
                _ => {
                    // A valid answer, sometimes cut or damaged.
                    let whole = Header::decode(&frame).is_some_and(|header| header.frame_length() == frame.len());
                    if whole {
                        if let Some((mut answer, _)) = server.request(&std::mem::take(&mut frame), now) {
                            if number % 5 == 0 {
                                let at = number as usize / 5 % answer.len();
                                answer[at] ^= bytes.first().copied().unwrap_or(0);
                            }
                            client.received(now, &answer);
                        }
                    }
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
                }
                Action::Write { .. } => {}
                Action::Done | Action::Failed(_) => return Ok(()),
            }
        }
        prop_assert!(false, "it does not terminate");
    }
}
