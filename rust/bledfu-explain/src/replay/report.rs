// SPDX-License-Identifier: Apache-2.0
//! What `bledfu replay` prints.

use std::fmt::Write as _;
use std::iter;

use bledfu_slot::SwapType;
use serde_json::{json, Value};

use super::catalogue::{self, Entry};
use super::fact::{Fact, Place};
use super::rules::{Outcome, Verdict};
use super::story::{op, Answer, Exchange, Spot, Step, Story};
use super::target::{Decision, Played, Replay, Same};
use super::target_smp::Piece;
use super::{clock, Explained};
use crate::text::wrap;

/// Rows at the beginning and at the end of a long list; what is between is counted.
const FIRST: usize = 12;
const LAST: usize = 12;
/// Columns of a label.
const LABEL: usize = 13;

/// One thing that happened.
struct Row {
    spot: Spot,
    what: String,
}

/// The report as text.
pub fn text(log: &Explained) -> String {
    let story = &log.story;
    let mut out = String::new();
    let format = story.format().map_or("unknown", |format| format.name());
    label(
        &mut out,
        "log",
        &format!("{format}, lines {} to {}", story.first_line, story.last_line),
    );
    if let (Some(first), Some(last)) = (story.first_ms, story.last_ms) {
        label(
            &mut out,
            "time",
            &format!(
                "{} to {}, {:.3} s",
                clock(first),
                clock(last),
                (last - first) as f64 / 1000.0
            ),
        );
    }
    label(&mut out, "understood", &understood(story));
    out.push('\n');
    let (verdict, entry) = verdict(&log.outcome);
    let _ = writeln!(out, "{}", wrap(&verdict, 0));
    rows(&mut out, story);
    objects(&mut out, story);
    if let Some(entry) = entry {
        list(&mut out, "likely causes, the likeliest first", entry.causes, true);
        list(&mut out, "check or change", entry.checks, false);
        let _ = writeln!(
            out,
            "\nbledfu in the same place\n{}",
            wrap(&format!("  {}.", upper(entry.bledfu)), 2)
        );
    }
    replayed(&mut out, log.replay.as_ref());
    uploaded(&mut out, &log.pieces);
    decided(&mut out, &log.decisions);
    out
}

fn label(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{}", wrap(&format!("{name:LABEL$}{text}"), LABEL));
}

fn understood(story: &Story) -> String {
    let mut text = format!("{} of {} lines", story.understood, story.lines);
    if !story.unknown.is_empty() {
        let numbers: Vec<String> = story.unknown.iter().take(10).map(usize::to_string).collect();
        let more = if story.lines - story.understood > numbers.len() {
            ", ..."
        } else {
            ""
        };
        let _ = write!(
            text,
            "; not line{} {}{more}",
            if story.unknown.len() > 1 { "s" } else { "" },
            numbers.join(", ")
        );
    }
    if story.cut_short {
        text.push_str("; what comes after that was not kept");
    }
    text
}

fn verdict(outcome: &Outcome) -> (String, Option<&'static Entry>) {
    match outcome {
        Outcome::Fault(Verdict { id, spot, sure, why, .. }) => {
            let entry = catalogue::find(id);
            let title = entry.map_or("", |entry| entry.title);
            (format!("{id} @{} ({}): {title}. {}.", spot.line, sure.name(), upper(why)), entry)
        }
        Outcome::Success => ("none: the log shows no fault; the update went to its end.".to_owned(), None),
        Outcome::Unknown => (
            "unknown: nothing in the log is a fault that the catalogue knows. What was understood is below; more lines before and after, \
             or the log of the other side, may tell."
                .to_owned(),
            None,
        ),
    }
}

/// With a capital letter, unless the sentence begins with code.
fn upper(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(_) if text.starts_with("rc ") => text.to_owned(),
        Some(first) => iter::once(first.to_ascii_uppercase()).chain(letters).collect(),
        None => String::new(),
    }
}

fn list(out: &mut String, name: &str, items: &[&str], numbered: bool) {
    let _ = writeln!(out, "\n{name}");
    for (index, item) in items.iter().enumerate() {
        let mark = if numbered {
            format!("{}.", index + 1)
        } else {
            "-".to_owned()
        };
        let _ = writeln!(out, "{}", wrap(&format!("  {mark:<3}{item}"), 5));
    }
}

fn rows(out: &mut String, story: &Story) {
    let rows = events(story);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nwhat happened\n   line       after");
    let zero = story.first_ms.unwrap_or_default();
    let hidden = rows.len().saturating_sub(FIRST + LAST);
    for (index, row) in rows.iter().enumerate() {
        if hidden > 0 && index == FIRST {
            let _ = writeln!(out, "    ...              {hidden} more");
        }
        if hidden > 0 && (FIRST..FIRST + hidden).contains(&index) {
            continue;
        }
        let after = match row.spot.at_ms {
            Some(at) => format!("{:.3} s", (at - zero) as f64 / 1000.0),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "{}",
            wrap(&format!("{:>7}{after:>12}  {}", row.spot.line, row.what), 21)
        );
    }
}

/// What happened, without the objects that have a table of their own.
fn events(story: &Story) -> Vec<Row> {
    let mut rows = Vec::new();
    for step in &story.steps {
        let row = match step {
            Step::Exchange(index) => {
                let Some(exchange) = story.exchanges.get(*index) else {
                    continue;
                };
                let is_plain =
                    !exchange.command && exchange.answer.as_ref().is_some_and(|answer| answer.code() == 1);
                if is_plain && matches!(exchange.op, op::CREATE | op::CHECKSUM | op::EXECUTE) {
                    continue;
                }
                Some((exchange.spot, said(exchange)))
            }
            Step::Receipt { spot, offset, .. } => Some((*spot, format!("receipt: {offset} bytes"))),
            Step::Packets(_) => None,
            Step::Mark(index) => story
                .marks
                .get(*index)
                .and_then(|mark| Some((mark.spot, marked(&mark.fact)?))),
        };
        if let Some((spot, what)) = row {
            // The same in the next line: as bytes and in words, or of the stack and of the library.
            let is_again =
                |last: &Row| last.what == what && spot.pos - last.spot.pos <= 2 && what.contains("jump");
            if rows.last().is_some_and(is_again) {
                continue;
            }
            rows.push(Row { spot, what });
        }
    }
    rows
}

/// A request and its answer in words.
pub(super) fn said(exchange: &Exchange) -> String {
    let object = if exchange.command { "init packet" } else { "image" };
    let request = match exchange.op {
        op::CREATE => match exchange.size {
            Some(size) => format!("{object}: Create of {size} bytes"),
            None => format!("{object}: Create"),
        },
        op::RECEIPTS => match exchange.receipts {
            Some(0) => "receipts off".to_owned(),
            Some(1) => "receipts after every packet".to_owned(),
            Some(count) => format!("receipts after every {count} packets"),
            None => "receipts".to_owned(),
        },
        op::CHECKSUM => format!("{object}: Checksum"),
        op::EXECUTE => format!("{object}: Execute"),
        op::SELECT => format!("{object}: Select"),
        other => format!("request {other:02X}"),
    };
    let Some(answer) = &exchange.answer else {
        return format!("{request}, never answered");
    };
    let took = match (exchange.logged, exchange.spot.at_ms, answer.spot.at_ms) {
        (true, Some(from), Some(to)) => format!(", {} ms", to - from),
        _ => String::new(),
    };
    let result = match (answer.code(), answer.extended()) {
        (1, _) => match (
            answer.info().filter(|_| exchange.op == op::SELECT),
            answer.checksum(),
        ) {
            (Some((_, offset, crc)), _) => format!("{offset} bytes there, CRC {crc:08X}"),
            (None, Some((offset, crc))) if exchange.op == op::CHECKSUM => {
                format!("{offset} bytes, CRC {crc:08X}")
            }
            _ => "done".to_owned(),
        },
        (code, Some(extended)) => format!("refused with {code:02X} {extended:02X}"),
        (code, None) => format!("refused with {code:02X}"),
    };
    format!("{request}: {result}{took}")
}

/// A mark in words; `None` for what only the rules need.
pub(super) fn marked(fact: &Fact) -> Option<String> {
    let swap = |number: &u32| {
        ["none", "test", "permanent", "revert"]
            .get((*number as usize).wrapping_sub(1))
            .copied()
    };
    Some(match fact {
        Fact::LinkState { dfu, status, up } => {
            let whose = if *dfu {
                "the link of the update"
            } else {
                "the app's link"
            };
            match (up, status) {
                (true, _) => format!("{whose} is up"),
                (false, status) => format!("{whose} is down, status {status}"),
            }
        }
        Fact::LinkError { code, .. } => format!("error {code} of the phone's stack"),
        Fact::Mtu(mtu) => format!("MTU {mtu}"),
        Fact::Ended => "the link of the update is gone".to_owned(),
        Fact::JumpAccepted => "the jump to the bootloader is accepted".to_owned(),
        Fact::Scanning => "the client looks for the bootloader".to_owned(),
        Fact::Found => "the bootloader is found".to_owned(),
        Fact::NotFound => "the bootloader is not found".to_owned(),
        Fact::CrcWrong => "the client finds the CRC wrong".to_owned(),
        Fact::Lost(count) => format!("the client misses {count} bytes"),
        Fact::SentTold { sent, told } if *sent > 0 => format!("{sent} bytes were sent, {told} are told"),
        Fact::SentTold { .. } => "the client finds bytes missing".to_owned(),
        Fact::Remote(code) => format!("the client reports result {code:02X}"),
        Fact::Extended(code) => format!("the client reports extended result {code:02X}"),
        Fact::Buttonless(code) => format!("the buttonless service answers {code:02X}"),
        Fact::Library(code) => format!("error {code} of the phone's library"),
        Fact::BadFile => "the client cannot use the file".to_owned(),
        Fact::NoService => "the update service is not found".to_owned(),
        Fact::NoPing => "nrfutil gives up".to_owned(),
        Fact::Completed => "the client reports success".to_owned(),
        Fact::Write {
            to: Place::Buttonless,
            bytes,
        } if bytes.first() == Some(&2) => "a new name to advertise with is asked for".to_owned(),
        Fact::SdkNoBuffer => "no receive buffer for a packet".to_owned(),
        Fact::SdkInvalidData { expected, got } => format!("{got} of {expected} bytes at Execute"),
        Fact::SdkFlashFailed => "a flash operation failed".to_owned(),
        Fact::SdkCheck(code) => format!("a check failed, as extended code {code:02X}"),
        Fact::SdkBootInvalid => "the image is not valid at the start".to_owned(),
        Fact::SmpSent(sent) => {
            let name = smp_name(sent.group, sent.command);
            match sent.off {
                Some(off) => format!("{name}, offset {off}"),
                None => name,
            }
        }
        Fact::SmpGot(got) => match (got.err, got.rc, got.off, got.matches) {
            (Some((group, code)), ..) => format!("answer: error {code} of group {group}"),
            (_, Some(code), ..) if code != 0 => format!("answer: rc {code}"),
            (.., Some(false)) => "answer: the SHA-256 does not match".to_owned(),
            (.., Some(off), _) => format!("answer: offset {off}"),
            _ => "answer: done".to_owned(),
        },
        Fact::SmpOffset(offset) => format!("upload, offset {offset}"),
        Fact::SmpTimeout { .. } => "no answer in time".to_owned(),
        Fact::SmpLost { .. } => "a piece or its answer was lost".to_owned(),
        Fact::Slot(slot) => format!("image list: slot {slot}"),
        Fact::Flags {
            pending,
            confirmed,
            active,
        } => {
            let flags = [(active, "active"), (confirmed, "confirmed"), (pending, "pending")];
            let names: Vec<&str> = flags
                .into_iter()
                .filter(|(set, _)| **set)
                .map(|(_, name)| name)
                .collect();
            if names.is_empty() {
                return None;
            }
            format!("  flags: {}", names.join(", "))
        }
        Fact::NotPending => "the image is not marked for the next boot".to_owned(),
        Fact::NoMtu => "no MTU is agreed".to_owned(),
        Fact::BadMagic => "no image header in the file".to_owned(),
        Fact::WrongSha => "the SHA-256 of what is stored differs".to_owned(),
        Fact::ServerFlash => "the device cannot write its flash".to_owned(),
        Fact::ServerInspect(code) => format!("the device refuses the upload, error {code}"),
        Fact::ServerMark => "the device cannot mark the image".to_owned(),
        Fact::NoTxBuffer => "no buffer for an answer".to_owned(),
        Fact::Banner { boot: true } => "start of the boot stage".to_owned(),
        Fact::Banner { boot: false } => "start of the application".to_owned(),
        Fact::Trailer(found) => {
            let slot = if found.primary { "primary" } else { "secondary" };
            let magic = match found.magic {
                Some(true) => "good",
                Some(false) => "bad",
                None => "unset",
            };
            format!("trailer of the {slot} slot: magic {magic}")
        }
        Fact::SwapType(number) => format!("the boot stage decides: {}", swap(number)?),
        Fact::Invalid { primary } => format!(
            "the image in the {} slot is refused",
            if *primary { "primary" } else { "secondary" }
        ),
        Fact::NoRoom => "no room for the swap".to_owned(),
        Fact::NoImage => "no image to start".to_owned(),
        Fact::Incompatible => "the slots do not fit".to_owned(),
        Fact::NoArea => "a flash does not open".to_owned(),
        _ => return None,
    })
}

fn smp_name(group: u16, command: u8) -> String {
    match (group, command) {
        (0, 0) => "echo".to_owned(),
        (0, 5) => "reset".to_owned(),
        (0, 6) => "parameters".to_owned(),
        (0, 8) => "boot loader information".to_owned(),
        (1, 0) => "state of the images".to_owned(),
        (1, 1) => "upload".to_owned(),
        (1, 5) => "erase".to_owned(),
        (1, 6) => "slot information".to_owned(),
        _ => format!("group {group}, command {command}"),
    }
}

/// Times of one data object, in ms.
#[derive(Default)]
struct Object {
    line: usize,
    number: u32,
    create: Option<i64>,
    pause: Option<i64>,
    data: Option<i64>,
    checksum: Option<i64>,
    execute: Option<i64>,
    told: Option<(u32, u32)>,
    created: Option<i64>,
    sending: Option<i64>,
    unanswered: bool,
}

fn collect(story: &Story) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    for step in &story.steps {
        match step {
            Step::Exchange(index) => {
                let Some(exchange) = story.exchanges.get(*index).filter(|exchange| !exchange.command) else {
                    continue;
                };
                let took = |answer: &Answer| Some(answer.spot.at_ms? - exchange.spot.at_ms?);
                let took = exchange
                    .answer
                    .as_ref()
                    .filter(|_| exchange.logged)
                    .and_then(took);
                if exchange.op == op::CREATE {
                    let number = objects.last().map_or(1, |last| last.number.saturating_add(1));
                    objects.push(Object {
                        line: exchange.spot.line,
                        number: exchange.object.map_or(number, |(number, _)| number),
                        create: took,
                        created: exchange.answer.as_ref().and_then(|answer| answer.spot.at_ms),
                        unanswered: exchange.answer.is_none(),
                        ..Object::default()
                    });
                    continue;
                }
                let Some(object) = objects.last_mut() else {
                    continue;
                };
                object.unanswered |= exchange.answer.is_none();
                match exchange.op {
                    op::CHECKSUM => {
                        object.checksum = object.checksum.or(took);
                        object.told = exchange
                            .answer
                            .as_ref()
                            .and_then(Answer::checksum)
                            .or(object.told);
                        if let (Some(from), Some(to)) =
                            (object.sending, exchange.spot.at_ms.filter(|_| exchange.logged))
                        {
                            object.data = object.data.or(Some(to - from));
                        }
                    }
                    op::EXECUTE => object.execute = took,
                    _ => {}
                }
            }
            Step::Packets(spot) => {
                if let Some(object) = objects.last_mut().filter(|object| object.sending.is_none()) {
                    object.sending = spot.at_ms;
                    object.pause = object.created.and_then(|created| Some(spot.at_ms? - created));
                }
            }
            _ => {}
        }
    }
    objects
}

fn objects(out: &mut String, story: &Story) {
    let objects = collect(story);
    if objects.is_empty() {
        return;
    }
    let all = story.objects().map_or(String::new(), |all| format!(" of {all}"));
    let _ = writeln!(out, "\nobjects{all}, times in ms\n   line  object  create  pause   data  checksum  execute  on the device");
    let hidden = objects.len().saturating_sub(FIRST + LAST);
    for (index, object) in objects.iter().enumerate() {
        if hidden > 0 && index == FIRST {
            let _ = writeln!(out, "    ...  {hidden} more");
        }
        if hidden > 0 && (FIRST..FIRST + hidden).contains(&index) {
            continue;
        }
        let ms = |time: Option<i64>| time.map_or("-".to_owned(), |time| time.to_string());
        let told = match object.told {
            Some((offset, crc)) => format!("{offset} {crc:08X}"),
            None => "-".to_owned(),
        };
        let open = if object.unanswered { " open" } else { "" };
        let row = format!(
            "{:>7}  {:>6}  {:>6}  {:>5}  {:>5}  {:>8}  {:>7}  {told}{open}",
            object.line,
            object.number,
            ms(object.create),
            ms(object.pause),
            ms(object.data),
            ms(object.checksum),
            ms(object.execute),
        );
        let _ = writeln!(out, "{}", wrap(&row, 58));
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join("-")
}

fn replayed(out: &mut String, replay: Option<&Replay>) {
    let Some(replay) = replay else { return };
    let _ = writeln!(out, "\nplayed to bledfu's own target");
    let package = match replay.own_init {
        true => "the init packet of the log, made-up image bytes with the CRCs of the log",
        false => "the log does not have the whole init packet: a made-up one stands for it",
    };
    let summary = format!(
        "{} requests, {} answered as in the log; {package}",
        replay.played.len(),
        replay.same()
    );
    let _ = writeln!(out, "{}", wrap(&format!("  {summary}"), 2));
    let others: Vec<&Played> = replay
        .played
        .iter()
        .filter(|played| matches!(played.same, Same::No | Same::Unanswered))
        .collect();
    for played in others.iter().take(FIRST) {
        let logged = match &played.logged {
            Some(answer) => hex(&answer.bytes),
            None => "no answer".to_owned(),
        };
        let answer = if played.answer.is_empty() {
            "no answer".to_owned()
        } else {
            hex(&played.answer)
        };
        // Flash that works for an answer takes time on the target's clock; most answers need none.
        let took = match played.took_ms {
            ms if ms >= 0.1 => format!(", after {ms:.1} ms"),
            _ => String::new(),
        };
        let lines = [
            format!("  line {}, request {}", played.spot.line, hex(&played.request)),
            format!("    log     {logged}"),
            format!("    bledfu  {answer}{took}"),
        ];
        for line in lines {
            let _ = writeln!(out, "{}", wrap(&line, 12));
        }
    }
    if others.len() > FIRST {
        let _ = writeln!(out, "  {} more differ", others.len() - FIRST);
    }
    if let Some(spot) = replay.left_out {
        let _ = writeln!(
            out,
            "{}",
            wrap(
                &format!(
                    "  line {}: the last Execute was not played, because the bytes of the image are not in the log",
                    spot.line
                ),
                2
            )
        );
    }
}

/// The target's answer to a piece, in words.
fn answer_to(piece: &Piece) -> String {
    match &piece.answer {
        Ok(offset) => format!("offset {offset} after {:.1} ms", piece.took_ms),
        Err(why) => why.clone(),
    }
}

fn uploaded(out: &mut String, pieces: &[Piece]) {
    if pieces.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nplayed to bledfu's own target, with an image of the same length"
    );
    for piece in pieces.iter().take(FIRST) {
        let logged = match piece.logged {
            Some((spot, off)) => {
                let what = off.map_or("an answer".to_owned(), |off| format!("offset {off}"));
                match (piece.spot.at_ms, spot.at_ms) {
                    (Some(from), Some(to)) => format!("{what} after {} ms", to - from),
                    _ => what,
                }
            }
            None => "no answer".to_owned(),
        };
        let line = format!(
            "  line {}, offset {}: {logged}; bledfu: {}",
            piece.spot.line,
            piece.off,
            answer_to(piece)
        );
        let _ = writeln!(out, "{}", wrap(&line, 12));
    }
    if pieces.len() > FIRST {
        let _ = writeln!(out, "  {} more pieces", pieces.len() - FIRST);
    }
}

fn swap_name(swap: SwapType) -> &'static str {
    match swap {
        SwapType::None => "none",
        SwapType::Test => "test",
        SwapType::Permanent => "permanent",
        SwapType::Revert => "revert",
        SwapType::Fail => "fail",
    }
}

/// The decision as MCUboot numbers it.
fn swap_number(swap: SwapType) -> u32 {
    match swap {
        SwapType::None => 1,
        SwapType::Test => 2,
        SwapType::Permanent => 3,
        SwapType::Revert => 4,
        SwapType::Fail => 5,
    }
}

fn decided(out: &mut String, decisions: &[Decision]) {
    if decisions.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nbledfu's boot stage with the same trailers");
    for decision in decisions.iter().take(FIRST) {
        let same = if swap_number(decision.ours) == decision.logged {
            ", as in the log"
        } else {
            ", unlike the log"
        };
        let _ = writeln!(
            out,
            "  line {:<6} {}{same}",
            decision.spot.line,
            swap_name(decision.ours)
        );
    }
}

/// The report as JSON.
pub fn json(log: &Explained) -> Value {
    let story = &log.story;
    let verdict = match &log.outcome {
        Outcome::Fault(verdict) => {
            let entry = catalogue::find(verdict.id);
            json!({
                "id": verdict.id, "line": verdict.spot.line, "sure": verdict.sure.name(), "why": verdict.why,
                "title": entry.map(|entry| entry.title), "causes": entry.map(|entry| entry.causes),
                "checks": entry.map(|entry| entry.checks), "bledfu": entry.map(|entry| entry.bledfu),
            })
        }
        Outcome::Success => json!({ "id": "none" }),
        Outcome::Unknown => json!({ "id": "unknown" }),
    };
    let events: Vec<Value> = events(story)
        .iter()
        .map(|row| json!({ "line": row.spot.line, "at_ms": row.spot.at_ms, "what": row.what }))
        .collect();
    let objects: Vec<Value> = collect(story)
        .iter()
        .map(|object| {
            json!({
                "line": object.line, "object": object.number, "create_ms": object.create, "pause_ms": object.pause,
                "data_ms": object.data, "checksum_ms": object.checksum, "execute_ms": object.execute,
                "offset": object.told.map(|told| told.0), "crc": object.told.map(|told| format!("{:08X}", told.1)),
            })
        })
        .collect();
    let replay = log.replay.as_ref().map(|replay| {
        let played: Vec<Value> = replay
            .played
            .iter()
            .map(|played| {
                json!({
                    "line": played.spot.line, "request": hex(&played.request),
                    "logged": played.logged.as_ref().map(|answer| hex(&answer.bytes)),
                    "bledfu": hex(&played.answer), "ms": played.took_ms,
                    "same": matches!(played.same, Same::Yes | Same::InMeaning),
                })
            })
            .collect();
        json!({ "own_init": replay.own_init, "left_out": replay.left_out.map(|spot| spot.line), "requests": played })
    });
    let pieces: Vec<Value> = log
        .pieces
        .iter()
        .map(|piece| json!({ "line": piece.spot.line, "off": piece.off, "bledfu": answer_to(piece) }))
        .collect();
    let decisions: Vec<Value> = log
        .decisions
        .iter()
        .map(|decision| json!({ "line": decision.spot.line, "bledfu": swap_name(decision.ours), "same": swap_number(decision.ours) == decision.logged }))
        .collect();
    json!({
        "event": "log", "format": story.format().map(|format| format.name()),
        "first_line": story.first_line, "last_line": story.last_line,
        "lines": story.lines, "understood": story.understood, "not_understood": story.unknown,
        "pieces": pieces, "verdict": verdict, "events": events, "objects": objects, "replay": replay, "boot": decisions,
    })
}
