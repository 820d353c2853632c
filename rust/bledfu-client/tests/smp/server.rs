// SPDX-License-Identifier: Apache-2.0
//! A server of SMP that can be told to misbehave.

use bledfu_wire::image_group::{self, ImageState};
use bledfu_wire::os_group;
use bledfu_wire::smp::{self, encode, Code, Failure, Request, Response};

pub const OLD: [u8; 32] = [1; 32];
pub const NEW: [u8; 32] = [2; 32];
pub const OTHER: [u8; 32] = [3; 32];
pub const BUF_SIZE: u32 = 600;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slot {
    pub hash: [u8; 32],
    pub pending: bool,
    pub confirmed: bool,
    pub permanent: bool,
}

/// A server with one image. It answers a request 10 ms after it has received it whole.
#[derive(Default)]
pub struct Server {
    pub running: Slot,
    pub waiting: Option<Slot>,
    pub held: Vec<u8>,
    pub length: Option<usize>,
    pub sha: Option<Vec<u8>>,
    /// The received requests, one line each, without data.
    pub log: Vec<String>,
    /// When they were received.
    pub times: Vec<u64>,
    pub frames: Vec<usize>,
    pub sequences: Vec<u8>,
    pub resets: usize,

    // Faults. Requests are counted from 1 over the whole test.
    pub count: usize,
    pub lost: Vec<usize>,
    /// Answers that are lost.
    pub unanswered: Vec<usize>,
    pub refused: Vec<(usize, Failure)>,
    pub breaks_at: Vec<usize>,
    /// The session is forgotten when the link breaks, as after a reset.
    pub forgets: bool,
    pub never_moves: bool,
    pub never_closes: bool,
    pub says_match: Option<bool>,
    pub reverts: bool,
    pub delay_ms: Vec<(usize, u64)>,
}

impl Server {
    pub fn new() -> Self {
        Self {
            running: Slot {
                hash: OLD,
                confirmed: true,
                ..Slot::default()
            },
            ..Self::default()
        }
    }

    /// A server that runs this image for the first time, and can go back to the old one.
    pub fn on_trial(hash: [u8; 32]) -> Self {
        Self {
            running: Slot {
                hash,
                ..Slot::default()
            },
            waiting: Some(Slot {
                hash: OLD,
                confirmed: true,
                ..Slot::default()
            }),
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

    pub fn boot(&mut self) {
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

    pub fn connect(&mut self) {
        self.log.push("-".into());
        self.times.push(0);
        if self.forgets && self.waiting.is_none() {
            self.length = None;
            self.held.clear();
        }
    }

    /// The answer, and whether the device resets after it.
    pub fn request(&mut self, frame: &[u8], now: u64) -> Option<(Vec<u8>, bool)> {
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
