// SPDX-License-Identifier: Apache-2.0
//! Plays the pieces of an SMP upload to the project's own target. Their bytes are not in a log, so an image of the same length stands
//! for it; offsets can be compared, its last answers cannot.

use anyhow::{anyhow, Result};
use bledfu_sim::device::{image_digest, Board, Device, Keys, Setup};
use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::{demo_payload, ImageSpec};
use bledfu_sim::power::Power;
use bledfu_slot::Version;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;
use bledfu_wire::image_group::{Request, Upload};
use bledfu_wire::smp::{self, encode_request};
use bledfu_wire::smp_answer::Answer;
use sha2::{Digest as _, Sha256};

use super::fact::{Fact, SmpSent};
use super::story::{Spot, Story};
use super::target::{factory_image, started};

/// Group and command of an upload.
const UPLOAD: (u16, u8) = (1, 1);
/// Longest write of the replay, as with an MTU of 498.
const WRITE: usize = 495;
/// Longest frame: what the target announces.
const FRAME: usize = 2475;
/// Most pieces that are played, and most bytes of the image.
const MOST_PIECES: usize = 2000;
const MOST_BYTES: u32 = 2 << 20;
const MOST_STEPS: usize = 10_000;
/// Bytes around the payload of the image that stands for the one in the log.
const AROUND: u32 = 0x400;

/// A piece, what the log says about it, and the target's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its request in the log.
    pub spot: Spot,
    /// Its offset.
    pub off: u32,
    /// The answer in the log: its place and the offset it tells.
    pub logged: Option<(Spot, Option<u32>)>,
    /// The target's: an offset, or an error in words.
    pub answer: Result<u64, String>,
    /// After this time on its own clock, in ms.
    pub took_ms: f64,
}

/// Plays the uploads of a log; none if it has no frames of an upload.
///
/// # Errors
/// The simulated device does not start.
pub fn play(story: &Story) -> Result<Vec<Piece>> {
    let sent: Vec<(Spot, SmpSent, u32)> = story
        .marks
        .iter()
        .filter_map(|mark| match mark.fact {
            Fact::SmpSent(sent) if (sent.group, sent.command) == UPLOAD => Some((mark.spot, sent, sent.off?)),
            _ => None,
        })
        .take(MOST_PIECES)
        .collect();
    let Some(length) = sent
        .iter()
        .find_map(|(_, sent, _)| sent.len)
        .map(|len| len.min(MOST_BYTES))
    else {
        return Ok(Vec::new());
    };
    let key = SigningKey::from_scalar(&[0x17; 32]).ok_or_else(|| anyhow!("no key for the made-up image"))?;
    let version = Version {
        major: 2,
        minor: 0,
        revision: 0,
        build: 0,
    };
    let payload = demo_payload(version, length.saturating_sub(AROUND) as usize, 0);
    let mut image = ImageSpec::new(version, payload, &key).build();
    image.resize(length as usize, 0xFF);
    let sha: [u8; 32] = Sha256::digest(&image).into();

    let power = Power::new();
    let mut device = start(&key, &power)?;
    let mut pieces = Vec::new();
    for (index, (spot, fields, off)) in sent.iter().enumerate() {
        let mut upload = Upload {
            offset: Some((*off).into()),
            length: (*off == 0).then_some(length.into()),
            sha: (*off == 0).then_some(&sha),
            ..Upload::default()
        };
        let next = sent
            .get(index + 1)
            .map(|(_, _, next)| *next)
            .filter(|next| next > off);
        let room = upload.room(fields.bytes.map_or(FRAME, |bytes| (bytes as usize).min(FRAME)));
        let size = match (fields.bytes, next) {
            (None, Some(next)) => ((next - off) as usize).min(room),
            _ => room,
        };
        let start = (*off as usize).min(image.len());
        upload.data = image
            .get(start..image.len().min(start + size))
            .unwrap_or_default();
        let mut frame = [0; FRAME];
        let request = smp::Request::Image(Request::Upload(upload));
        let seq = fields.seq.unwrap_or(index as u8);
        let Some(frame) = encode_request(smp::Version::V2, seq, &request, &mut frame)
            .and_then(|length| frame.get(..length))
        else {
            continue;
        };
        let began = power.now_ns();
        let answer = exchange(&mut device, frame);
        pieces.push(Piece {
            spot: *spot,
            off: *off,
            logged: logged(story, *spot, fields.seq),
            answer,
            took_ms: (power.now_ns() - began) as f64 / 1e6,
        });
    }
    Ok(pieces)
}

fn start(key: &SigningKey, power: &Power) -> Result<Device> {
    let factory = factory_image(key);
    let digest = image_digest(&factory).ok_or_else(|| anyhow!("the factory image has no header"))?;
    let setup = Setup {
        keys: Keys::new(key.public(), key.public(), vec![digest]),
        ..Setup::demo()
    };
    let board = Board::new(setup, power)?;
    let mut device = started(&board, &factory)?;
    device.link_up(Transport::Ble);
    Ok(device)
}

/// The first answer in the log after a request, with its number.
fn logged(story: &Story, request: Spot, seq: Option<u8>) -> Option<(Spot, Option<u32>)> {
    let mut later = story.marks.iter().filter(|mark| mark.spot.pos > request.pos);
    later.find_map(|mark| match mark.fact {
        Fact::SmpGot(got) if seq.is_some() && got.seq == seq => Some((mark.spot, got.off)),
        _ => None,
    })
}

fn exchange(device: &mut Device, frame: &[u8]) -> Result<u64, String> {
    let mut answer = Vec::new();
    for bytes in frame.chunks(WRITE) {
        let channel = Channel::Smp;
        if device.receive(Frame { channel, bytes }).is_err() {
            return Err("the ring is full".to_owned());
        }
        for _ in 0..MOST_STEPS {
            match device.step() {
                Some(Step::Send { bytes, .. }) => answer.extend_from_slice(bytes),
                Some(Step::Wait { .. } | Step::Deliver { .. } | Step::Reset) => break,
                _ => {}
            }
        }
    }
    let answer = Answer::decode(&answer).map_err(|_| "no answer".to_owned())?;
    if let Some(error) = answer.error {
        return Err(error.to_string());
    }
    let offset = answer.upload().ok().and_then(|upload| upload.offset);
    offset.ok_or_else(|| "an answer without an offset".to_owned())
}
