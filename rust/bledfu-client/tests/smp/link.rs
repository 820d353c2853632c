// SPDX-License-Identifier: Apache-2.0
//! A client on a link to the server, in virtual time.

use crate::common::pattern;
use crate::server::{Server, NEW};
use bledfu_client::smp::{Buffers, Client, Error, Image, Settings};
use bledfu_client::{Action, Characteristic, Progress, UpdateClient};
use bledfu_wire::smp::Header;
use std::collections::VecDeque;

/// A client that sends this image, with buffers for its requests and for answers.
pub fn client<'b, const R: usize, const A: usize>(
    image: &'b [u8],
    settings: Settings,
    (request, answer): &'b mut ([u8; R], [u8; A]),
) -> Client<'b> {
    let image = Image {
        bytes: image,
        sha: [7; 32],
        hash: NEW,
    };
    Client::new(image, settings, Buffers { request, answer })
}

/// The settings of every application.
pub fn applications() -> [Settings; 3] {
    [Settings::android(), Settings::ios(), Settings::smpclient()]
}

/// What became of an update.
pub struct Outcome {
    pub end: Result<(), Error>,
    pub now: u64,
    pub progress: Progress,
    pub most_under_way: usize,
}

/// Runs a client on a link of `payload` bytes.
pub fn run(server: &mut Server, settings: Settings, image: &[u8], payload: usize) -> Outcome {
    let mut buffers = ([0; 1024], [0; 1024]);
    let mut client = client(image, settings, &mut buffers);
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

pub fn update(server: &mut Server, settings: Settings) -> Outcome {
    run(server, settings, &pattern(6_000), 244)
}

pub fn pieces(server: &Server) -> Vec<&str> {
    let lines = server.log.iter().map(String::as_str);
    lines.filter(|line| line.starts_with("piece")).collect()
}

/// The times between the requests `from..=to`, counted from 1, leaving out those of new connections.
pub fn gap(server: &Server, from: usize, to: usize) -> u64 {
    let times: Vec<u64> = server.times.iter().copied().filter(|&time| time > 0).collect();
    times[to - 1] - times[from - 1]
}

/// The number of the first piece among the requests, from 1.
pub fn first_piece(settings: Settings) -> usize {
    let mut server = Server::new();
    update(&mut server, settings);
    let requests = server.log.iter().filter(|line| *line != "-");
    1 + requests.take_while(|line| !line.starts_with("piece")).count()
}
