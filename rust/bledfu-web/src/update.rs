// SPDX-License-Identifier: Apache-2.0
//! *Update*: the file, the clients, and what the device's answers mean. The page moves the bytes.

use std::rc::Rc;

use bledfu_client::{secure_dfu, smp, Action, Characteristic, Stage, UpdateClient};
use bledfu_explain::inspect::folder::read_digest;
use bledfu_sender::file::File;
use bledfu_sender::images::{running, Asking, Image, NoAnswer, Question, ANSWER_MS, TRIES};
use bledfu_sender::proof::{self, Listed, Runs};
use bledfu_sender::release::Index;
use bledfu_sender::{settings, Protocol};
use self_cell::{self_cell, MutBorrow};
use serde_json::{json, Value};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::sentence;

/// Longest frame of SMP: more than any device takes.
const FRAME_SIZE: usize = 4096;
/// Longest answer of SMP.
const ANSWER_SIZE: usize = 4096;
/// SMP upload requests in flight.
const WINDOW: u8 = 3;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- the file

/// A file that can be sent.
#[wasm_bindgen]
pub struct Update {
    file: Rc<File>,
}

#[wasm_bindgen]
impl Update {
    /// Reads a file.
    #[wasm_bindgen(constructor)]
    pub fn new(name: &str, bytes: Vec<u8>) -> Result<Update, String> {
        match File::new(name, bytes, None) {
            Ok(file) => Ok(Self { file: Rc::new(file) }),
            Err(error) => Err(sentence(&error.context(format!("cannot use {name}")))),
        }
    }

    /// Its name, size, version and hash, and why a protocol cannot send it, as JSON.
    pub fn about(&self) -> String {
        let refusal = |protocol| self.file.check(protocol).err().map(|error| sentence(&error));
        json!({
            "name": self.file.name,
            "size": self.file.size(),
            "version": self.file.version(),
            "hashes": self.file.image().map(|image| {
                let made = image.makes.as_ref();
                [Some(&image.hash), made].into_iter().flatten().map(|hash| hex(hash)).collect::<Vec<_>>()
            }),
            "secure_dfu": refusal(Protocol::SecureDfu),
            "smp": refusal(Protocol::Smp),
        })
        .to_string()
    }

    /// A client that sends it. `is_proof`: only to see whether the device wants it again.
    pub fn client(&self, is_smp: bool, is_proof: bool) -> Result<Client, String> {
        let protocol = if is_smp {
            Protocol::Smp
        } else {
            Protocol::SecureDfu
        };
        self.file.check(protocol).map_err(|error| sentence(&error))?;
        let file = Rc::clone(&self.file);
        let gone = || "the file cannot be sent".to_owned();
        Ok(Client(if is_smp {
            let owner = SmpOwner {
                file,
                request: MutBorrow::new(vec![0; FRAME_SIZE]),
                answer: MutBorrow::new(vec![0; ANSWER_SIZE]),
            };
            let made = SmpCell::try_new(owner, |owner| {
                let buffers = smp::Buffers {
                    request: owner.request.borrow_mut(),
                    answer: owner.answer.borrow_mut(),
                };
                let image = owner.file.smp_image().ok_or_else(gone)?;
                Ok::<_, String>(smp::Client::new(image, settings::smp(WINDOW, 0), buffers))
            });
            Sending::Smp(made?)
        } else {
            let made = Dfu::try_new(file, |file| {
                let parts = file.parts().ok_or_else(gone)?;
                let parts = match is_proof {
                    true => secure_dfu::Package::of(parts.application),
                    false => parts,
                };
                Ok::<_, String>(secure_dfu::Client::new(parts, settings::secure_dfu(0)))
            });
            Sending::SecureDfu(made?)
        }))
    }

    /// A failure with what is wrong with the file itself, or with it for a device that runs the image with this hash: a device
    /// can only return a code.
    pub fn failed(&self, error: &str, running: Option<String>) -> String {
        match self.file.problem(running.as_deref().and_then(read_digest)) {
            Some(problem) => format!("{error}: {problem}"),
            None => error.to_owned(),
        }
    }

    /// What the answer to the same package has shown, as JSON.
    pub fn repeated(&self) -> String {
        shown(&proof::repeated(&self.file))
    }

    /// What the firmware revision shows that a device tells, as JSON.
    pub fn by_revision(&self, told: Option<String>) -> Result<String, String> {
        proof::by_revision(told.as_deref(), &self.file)
            .map(|runs| shown(&runs))
            .map_err(|error| sentence(&error))
    }
}

fn shown(runs: &Runs) -> String {
    json!({ "version": runs.version, "confirmed": runs.is_confirmed, "how": runs.how }).to_string()
}

// ---- the clients

struct SmpOwner {
    file: Rc<File>,
    request: MutBorrow<Vec<u8>>,
    answer: MutBorrow<Vec<u8>>,
}

type DfuClient<'a> = secure_dfu::Client<'a>;
type SmpClient<'a> = smp::Client<'a>;

self_cell!(
    struct Dfu {
        owner: Rc<File>,
        #[covariant]
        dependent: DfuClient,
    }
);

self_cell!(
    struct SmpCell {
        owner: SmpOwner,
        #[covariant]
        dependent: SmpClient,
    }
);

enum Sending {
    SecureDfu(Dfu),
    Smp(SmpCell),
}

/// A client of one update, which may take several connections. Times are in ms on any clock that does not run backwards.
#[wasm_bindgen]
pub struct Client(Sending);

/// What to do next.
#[wasm_bindgen(getter_with_clone)]
pub struct Step {
    /// `connect`, `write`, `wait`, `disconnect`, `done` or `failed`.
    pub kind: String,
    /// Not before this time, or at most until then.
    pub at_ms: f64,
    /// `control-point`, `packet` or `smp`.
    pub to: String,
    /// What to write.
    pub bytes: Vec<u8>,
    /// Why it failed.
    pub error: String,
    /// Whether a new attempt may go on where this one stopped.
    pub is_temporary: bool,
}

impl Step {
    fn of(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            at_ms: 0.0,
            to: String::new(),
            bytes: Vec::new(),
            error: String::new(),
            is_temporary: false,
        }
    }

    fn from_action<E: std::fmt::Display>(action: Action<'_, E>, is_temporary: impl Fn(&E) -> bool) -> Self {
        let at = |kind: &str, ms: u64| Self {
            at_ms: ms as f64,
            ..Self::of(kind)
        };
        match action {
            Action::Connect { at_ms } => at("connect", at_ms),
            Action::Write { to, bytes } => Self {
                to: match to {
                    Characteristic::ControlPoint => "control-point",
                    Characteristic::Packet => "packet",
                    Characteristic::Smp => "smp",
                }
                .to_owned(),
                bytes: bytes.to_vec(),
                ..Self::of("write")
            },
            Action::Wait { until_ms } | Action::Pause { until_ms } => at("wait", until_ms),
            Action::Disconnect => Self::of("disconnect"),
            Action::Done => Self::of("done"),
            Action::Failed(error) => Self {
                is_temporary: is_temporary(&error),
                error: error.to_string(),
                ..Self::of("failed")
            },
        }
    }
}

/// Calls the same method of either client.
macro_rules! each {
    ($client:expr, $inner:ident => $call:expr) => {
        match &mut $client.0 {
            Sending::SecureDfu(cell) => cell.with_dependent_mut(|_, $inner| $call),
            Sending::Smp(cell) => cell.with_dependent_mut(|_, $inner| $call),
        }
    };
}

#[wasm_bindgen]
impl Client {
    /// What to do next; to be asked again when it is done.
    pub fn poll(&mut self, now_ms: f64) -> Step {
        let now_ms = now_ms as u64;
        match &mut self.0 {
            Sending::SecureDfu(cell) => cell.with_dependent_mut(|_, client| {
                Step::from_action(client.poll(now_ms), settings::is_temporary_dfu)
            }),
            Sending::Smp(cell) => cell.with_dependent_mut(|_, client| {
                Step::from_action(client.poll(now_ms), settings::is_temporary_smp)
            }),
        }
    }

    /// A link is open, notifications are on, and a write carries up to `payload` bytes.
    pub fn connected(&mut self, now_ms: f64, payload: usize) {
        each!(self, client => client.connected(now_ms as u64, payload));
    }

    /// The link is gone.
    pub fn disconnected(&mut self, now_ms: f64) {
        each!(self, client => client.disconnected(now_ms as u64));
    }

    /// A notification arrived.
    pub fn received(&mut self, now_ms: f64, bytes: &[u8]) {
        each!(self, client => client.received(now_ms as u64, bytes));
    }

    /// Whether the device has done everything and only has to close the link.
    pub fn awaits_close(&mut self) -> bool {
        each!(self, client => client.awaits_close())
    }

    /// `preparing`, `sending`, `sent` or `verified`.
    pub fn stage(&mut self) -> String {
        match each!(self, client => client.progress()).stage {
            Stage::Preparing => "preparing",
            Stage::Sending => "sending",
            Stage::Sent => "sent",
            Stage::Verified => "verified",
        }
        .to_owned()
    }

    /// Image bytes that the device held when this connection began.
    pub fn resumed_at(&mut self) -> u32 {
        each!(self, client => client.progress()).resumed_at
    }

    /// Image bytes that the device is known to hold.
    pub fn held(&mut self) -> u32 {
        each!(self, client => client.progress()).held
    }
}

// ---- single requests of SMP

/// One question over SMP.
#[wasm_bindgen]
pub struct Ask {
    asking: Asking,
    images: Vec<Image>,
}

#[wasm_bindgen]
impl Ask {
    /// For the list of images.
    pub fn list(sequence: u8) -> Result<Ask, String> {
        Self::with(&Question::List, sequence)
    }

    /// To make the image of this file permanent, by the hash in the list that was answered.
    pub fn confirm(&self, update: &Update, sequence: u8) -> Result<Ask, String> {
        match update.file.image() {
            Some(image) => {
                let hash = proof::listed_hash(&self.images, image);
                Self::with(&Question::Confirm(&hash), sequence)
            }
            None => Err("the file is no image".to_owned()),
        }
    }

    fn with(question: &Question<'_>, sequence: u8) -> Result<Ask, String> {
        let asking = Asking::new(question, sequence).map_err(|error| error.to_string())?;
        Ok(Self {
            asking,
            images: Vec::new(),
        })
    }

    /// How long to wait for the answer, in ms.
    pub fn patience_ms() -> u32 {
        ANSWER_MS
    }

    /// How often to ask.
    pub fn tries() -> u32 {
        TRIES
    }

    /// The request.
    pub fn request(&mut self) -> Vec<u8> {
        self.asking.request().to_vec()
    }

    /// Takes a notification: `more`, `answered`, or `refused: ` and a sentence.
    ///
    /// An answer that is none is an error.
    pub fn received(&mut self, fragment: &[u8]) -> Result<String, String> {
        match self.asking.received(fragment) {
            None => Ok("more".to_owned()),
            Some(Ok(images)) => {
                self.images = images;
                Ok("answered".to_owned())
            }
            Some(Err(error @ NoAnswer::Refused(..))) => Ok(format!("refused: {error}")),
            Some(Err(error)) => Err(error.to_string()),
        }
    }

    /// The sentence for a device that stays silent.
    pub fn silent(&self) -> String {
        self.asking.silent().to_string()
    }

    /// The version and the hash of the image that runs, as JSON; `null` if the list is empty.
    pub fn running(&self) -> String {
        let now: Value = match running(&self.images) {
            Some(now) => {
                json!({ "version": now.version, "hash": now.hash.map(|hash| hex(&hash)), "confirmed": now.is_confirmed })
            }
            None => Value::Null,
        };
        now.to_string()
    }

    /// What the list says about the file: JSON of what runs, or `waits` if a reset may still come.
    ///
    /// The error is a sentence: what runs instead.
    pub fn judge(&self, update: &Update, may_wait: bool) -> Result<String, String> {
        let image = update.file.image().ok_or(proof::NOT_ASKED)?;
        match proof::by_list(&self.images, image, may_wait) {
            Ok(Listed::Runs(is_confirmed)) => Ok(shown(&proof::listed(image, is_confirmed))),
            Ok(Listed::Waits) => Ok("\"waits\"".to_owned()),
            Err(error) => Err(sentence(&error)),
        }
    }

    /// What the answer to a confirmation says.
    pub fn confirmed(&self, update: &Update) -> Result<String, String> {
        let image = update.file.image().ok_or(proof::NOT_ASKED)?;
        proof::confirmed(&self.images, image)
            .map(|runs| shown(&runs))
            .map_err(|error| sentence(&error))
    }

    /// The sentence for a device that refuses the confirmation and does not confirm by itself.
    pub fn on_trial(update: &Update, refused: &str) -> String {
        match update.file.image() {
            Some(image) => proof::on_trial(image, &refused),
            None => refused.to_owned(),
        }
    }
}

/// Sentences and times of the proof, as JSON.
#[wasm_bindgen]
pub fn proof_rules() -> String {
    json!({
        "reset_ms": proof::RESET_MS, "again_ms": proof::AGAIN_MS, "self_test_ms": proof::SELF_TEST_MS,
        "reconnect_ms": settings::RECONNECT_MS, "not_asked": proof::NOT_ASKED, "wants_again": proof::WANTS_AGAIN,
    })
    .to_string()
}

/// The sentence for a device that fails when it is sent the same package again.
#[wasm_bindgen]
pub fn untold(error: &str) -> String {
    proof::untold(&error)
}

// ---- releases

/// The file of a release for a device that runs the image with this hash, as JSON with `file`, `size` and `version`; `null` if it
/// runs the release already. `index` is the `index.json`.
#[wasm_bindgen]
pub fn choose(index: &str, running: Option<String>) -> Result<String, String> {
    let index: Index = serde_json::from_str(index)
        .map_err(|error| format!("the index of the release is damaged: {error}"))?;
    let chosen: Value = match index.file_for(running.as_deref()) {
        Some(entry) => json!({
            "file": entry.file, "size": entry.size, "version": index.to_version,
            "is_packed": entry.file != index.full.file, "full": index.full.file,
        }),
        None => Value::Null,
    };
    Ok(chosen.to_string())
}
