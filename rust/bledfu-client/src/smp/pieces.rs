// SPDX-License-Identifier: Apache-2.0
//! The upload: pieces of the image that are in flight, repeated, and answered.

use super::{Client, Error, Goal, Mode, OnOffset, Outgoing, Phase, MAX_WINDOW};
use crate::{Progress, Stage};
use bledfu_wire::image_group::{self, Upload};
use bledfu_wire::smp::{encode_request, Code, Failure, Request, Version};
use bledfu_wire::smp_answer::Answer;
use heapless::Vec;

/// Answers in a row with the same offset before the upload is given up, per request in flight.
const SAME_OFFSETS: u32 = 5;

/// Number of times an upload may be sent back before it is given up: a device that always restarts would never end it.
const STEPS_BACK: u32 = 1_000;

pub(super) const PIECE: &str = "a piece of the image";

pub(super) const FIRST_PIECE: &str = "the first piece of the image";

/// A piece in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) sequence: u8,
    pub(super) offset: u32,
    pub(super) end: u32,
    pub(super) tries: u8,
    /// It is sent alone, and its answer says where to continue.
    pub(super) is_alone: bool,
    /// It is sent again, because an earlier attempt failed.
    pub(super) is_repeat: bool,
    /// It was not answered and is to be written again.
    pub(super) sleeps: bool,
    pub(super) until_ms: u64,
}

/// An upload.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfer {
    /// The next byte to send; `None`: wait for answers.
    pub(super) next: Option<u32>,
    /// A failed piece that starts here is sent before the next one.
    pub(super) failed: Option<u32>,
    pub(super) pieces: Vec<Piece, MAX_WINDOW>,
    /// An answer named another offset: nothing is sent until all requests are answered.
    pub(super) is_draining: bool,
    /// A first piece was answered.
    pub(super) has_begun: bool,
    /// An answer in this connection has reported the device's offset.
    pub(super) is_placed: bool,
    /// How often each piece failed; the oldest entry is dropped first.
    pub(super) failures: Vec<(u32, u8), MAX_WINDOW>,
    /// The offset in the last answers, how many times in a row it came, and how often an answer named an earlier one.
    pub(super) named: (u32, u32, u32),
}

impl Client<'_> {
    pub(super) fn begin_upload(&mut self) {
        self.transfer = Transfer {
            next: Some(0),
            ..Transfer::default()
        };
        self.progress = Progress {
            stage: Stage::Sending,
            ..Progress::default()
        };
        self.phase = Phase::Upload;
    }

    /// The fields of a piece that starts at `offset`, without its data.
    pub(super) fn piece_fields<'s>(&self, offset: u32, sha: &'s [u8; 32]) -> Upload<'s> {
        let is_first = offset == 0;
        let names_sha = self.settings.restarts_with_sha || !self.transfer.has_begun;
        Upload {
            offset: Some(offset.into()),
            length: is_first.then_some(self.size().into()),
            sha: (is_first && names_sha).then_some(sha),
            ..Upload::default()
        }
    }

    /// Where a piece that starts at `offset` ends.
    pub(super) fn piece_end(&self, offset: u32) -> Option<u32> {
        let frame_size = self.frame_size.min(self.buffers.request.len());
        let room = self.piece_fields(offset, &self.image.sha).room(frame_size);
        let rest = self.size().saturating_sub(offset) as usize;
        if room >= rest {
            return Some(self.size());
        }
        let alignment = usize::from(self.settings.alignment).max(1);
        let length = if room < alignment {
            room
        } else {
            room - room % alignment
        };
        // A piece is shorter than the image, whose size has 32 bits.
        (length > 0).then_some(offset + length as u32)
    }

    /// Starts to write the next piece, if one may be sent now.
    pub(super) fn next_piece(&mut self) {
        let transfer = &self.transfer;
        let window = usize::from(self.settings.window).clamp(1, MAX_WINDOW);
        let is_blocked = transfer.is_draining || transfer.pieces.iter().any(|piece| piece.is_alone);
        if is_blocked || transfer.pieces.len() >= window {
            return;
        }
        if transfer.pieces.is_empty() && transfer.failed.is_none() && transfer.next.is_none() {
            self.transfer.next = Some(self.progress.held);
        }
        let is_repeat = self.transfer.failed.is_some();
        let Some(offset) = self.transfer.failed.take().or(self.transfer.next.take()) else {
            return;
        };
        let Some(end) = self.piece_end(offset) else {
            return self.fail(Error::FrameTooSmall);
        };
        let is_alone = is_repeat || offset == 0;
        if !is_repeat {
            // The answer to a piece that is sent alone says where to continue.
            self.transfer.next = (!is_alone && end < self.size()).then_some(end);
        }
        let piece = Piece {
            sequence: self.next_sequence(),
            offset,
            end,
            tries: 1,
            is_alone,
            is_repeat,
            sleeps: false,
            until_ms: u64::MAX,
        };
        if self.write_piece(piece) {
            let _ = self.transfer.pieces.push(piece);
        }
    }

    /// Encodes the request for a piece into the buffer.
    pub(super) fn write_piece(&mut self, piece: Piece) -> bool {
        let data = self.image.bytes.get(piece.offset as usize..piece.end as usize);
        let sha = self.image.sha;
        let request = Request::Image(image_group::Request::Upload(Upload {
            data: data.unwrap_or_default(),
            ..self.piece_fields(piece.offset, &sha)
        }));
        let encoded = encode_request(Version::V2, piece.sequence, &request, self.buffers.request);
        let Some(length) = encoded else {
            self.fail(Error::FrameTooSmall);
            return false;
        };
        let patience = self.settings.patience;
        self.outgoing = Some(Outgoing {
            at: 0,
            length,
            patience_ms: if piece.offset == 0 {
                patience.first_piece
            } else if piece.end == self.size() && self.settings.window > 1 {
                patience.last_piece
            } else {
                patience.piece
            },
        });
        true
    }

    pub(super) fn expire_pieces(&mut self, now_ms: u64) {
        // No other request is written meanwhile: a repeated one would overwrite this one.
        if self.outgoing.is_some() {
            return;
        }
        let late = self
            .transfer
            .pieces
            .iter()
            .position(|piece| now_ms >= piece.until_ms);
        let Some(piece) = late.and_then(|at| self.transfer.pieces.get(at).copied()) else {
            return;
        };
        if piece.sleeps {
            let again = Piece {
                tries: piece.tries + 1,
                sleeps: false,
                until_ms: u64::MAX,
                ..piece
            };
            self.replace(again);
            self.write_piece(again);
        } else if self.settings.piece_failures > 0 {
            self.take_piece(piece.sequence);
            self.piece_failed(piece, Error::Silent(name_of_piece(piece)));
        } else if piece.tries >= self.settings.tries {
            self.fail(Error::Silent(name_of_piece(piece)));
        } else {
            self.replace(Piece {
                sleeps: true,
                until_ms: now_ms + u64::from(self.settings.pause_between_tries_ms),
                ..piece
            });
        }
    }

    pub(super) fn replace(&mut self, piece: Piece) {
        let mut pieces = self.transfer.pieces.iter_mut();
        if let Some(found) = pieces.find(|found| found.sequence == piece.sequence) {
            *found = piece;
        }
    }

    pub(super) fn take_piece(&mut self, sequence: u8) -> Option<Piece> {
        let pieces = &mut self.transfer.pieces;
        let at = pieces.iter().position(|piece| piece.sequence == sequence)?;
        Some(pieces.remove(at))
    }

    /// Android counts the failures of each piece and sends it again.
    pub(super) fn piece_failed(&mut self, piece: Piece, error: Error) {
        let failures = &mut self.transfer.failures;
        let mut times = 1;
        if let Some(at) = failures.iter().position(|(offset, _)| *offset == piece.offset) {
            times += failures.remove(at).1;
        } else if failures.is_full() {
            failures.remove(0);
        }
        let _ = failures.push((piece.offset, times));
        if times >= self.settings.piece_failures {
            return self.fail(error);
        }
        self.transfer.failed = Some(piece.offset);
        if piece.is_alone {
            self.transfer.next = (piece.end < self.size()).then_some(piece.end);
        }
    }

    pub(super) fn piece_answered(&mut self, answer: &Answer<'_>) -> Result<(), Error> {
        let Some(piece) = self.take_piece(answer.header.sequence) else {
            return if self.settings.is_strict_about_sequence {
                Err(Error::OddAnswer(PIECE))
            } else {
                // A late answer to a piece that was sent again meanwhile.
                Ok(())
            };
        };
        let name = name_of_piece(piece);
        let upload = answer.upload().map_err(|_| Error::OddAnswer(name))?;
        if let Some(error) = answer.error {
            let refused = Error::Refused { request: name, error };
            let is_busy = error.known() == Some(Failure::Smp(Code::Busy));
            if self.settings.piece_failures > 0 {
                self.piece_failed(piece, refused);
                return Ok(());
            }
            // If the answer has an offset, smpclient ignores every error, and iOS the error that the device is busy.
            let overlooks = self.settings.is_strict_about_sequence || is_busy;
            if !overlooks || upload.offset.is_none() {
                return Err(refused);
            }
        }
        let offset = upload.offset.and_then(|offset| u32::try_from(offset).ok());
        let offset = offset.filter(|&offset| offset <= self.size());
        let offset = offset.ok_or(Error::OddAnswer(name))?;
        self.count_offsets(piece, offset)?;
        self.transfer.has_begun = true;
        if !core::mem::replace(&mut self.transfer.is_placed, true) {
            self.progress.resumed_at = if offset == piece.end { piece.offset } else { offset };
        }
        self.progress.held = offset;
        if offset == self.size() {
            return self.uploaded(upload.matches);
        }
        match self.settings.on_offset {
            OnOffset::Resend if piece.is_repeat => self.transfer.next = Some(offset),
            OnOffset::Resend if piece.is_alone => {
                if offset < piece.end {
                    self.transfer.failed = Some(offset);
                }
                self.transfer.next = Some(offset);
            }
            OnOffset::Resend if offset < piece.end => self.transfer.failed = Some(offset),
            OnOffset::Resend => {}
            OnOffset::Drain => {
                if piece.is_alone || offset != piece.end {
                    self.transfer.next = Some(offset);
                    self.transfer.is_draining = true;
                }
                if self.transfer.pieces.is_empty() {
                    self.transfer.is_draining = false;
                    self.transfer.next = Some(offset);
                }
            }
        }
        Ok(())
    }

    /// Gives up on a device that makes no progress.
    pub(super) fn count_offsets(&mut self, piece: Piece, offset: u32) -> Result<(), Error> {
        let (last, times, back) = self.transfer.named;
        let times = match offset == last && offset != piece.end {
            true => times + 1,
            false => 0,
        };
        let back = back + u32::from(offset < last);
        self.transfer.named = (offset, times, back);
        if times >= SAME_OFFSETS * (u32::from(self.settings.window) + 1) || back > STEPS_BACK {
            return Err(Error::Stuck { offset });
        }
        Ok(())
    }

    pub(super) fn uploaded(&mut self, matches: Option<bool>) -> Result<(), Error> {
        if matches == Some(false) {
            return Err(Error::WrongDigest);
        }
        self.transfer.pieces.clear();
        self.outgoing = None;
        self.goal = Goal::Install;
        self.progress.stage = Stage::Sent;
        let step = self.mark_step()?;
        if self.settings.mode == Mode::UploadOnly {
            self.progress.stage = Stage::Verified;
        }
        self.phase = Phase::Ask(step);
        Ok(())
    }

    /// Android: all pieces in flight have failed, and the upload continues in the next connection.
    pub(super) fn upload_interrupted(&mut self, now_ms: u64) {
        let pieces = core::mem::take(&mut self.transfer.pieces);
        for piece in &pieces {
            self.piece_failed(*piece, Error::LinkLost);
        }
        if let Phase::Drop(result) = self.phase {
            self.phase = Phase::Over(result);
            return;
        }
        self.goal = Goal::Upload;
        self.transfer.is_placed = false;
        self.phase = Phase::Down {
            connect_at_ms: now_ms + u64::from(self.settings.reconnect_ms),
        };
    }
}

pub(super) const fn name_of_piece(piece: Piece) -> &'static str {
    match piece.offset {
        0 => FIRST_PIECE,
        _ => PIECE,
    }
}
