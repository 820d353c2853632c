// SPDX-License-Identifier: Apache-2.0
//! How the applications differ, and what they send.

/// What to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'i> {
    /// The signed image, as imgtool wrote it.
    pub bytes: &'i [u8],
    /// SHA-256 of `bytes`, which identifies the upload.
    pub sha: [u8; 32],
    /// The hash in the image's TLVs, which identifies the image in lists.
    pub hash: [u8; 32],
}

/// Buffers of a client. A request is never longer than `request`, whatever the device accepts; an answer longer than
/// `answer` is a failure. The applications use 4096 and 2508 bytes.
#[derive(Debug)]
pub struct Buffers<'b> {
    /// For the request being written.
    pub request: &'b mut [u8],
    /// For the answer being received.
    pub answer: &'b mut [u8],
}

/// The mode that the user of the application chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The image runs once; the client confirms it after it reconnects.
    TestAndConfirm,
    /// The image runs once and must confirm itself.
    TestOnly,
    /// The image is installed permanently, without a trial.
    ConfirmOnly,
    /// Upload and reset; the image is not marked.
    UploadOnly,
}

/// What an application asks about the device, which may refuse all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The parameters of the transport, in version 1 and with sequence number 255.
    ParametersV1,
    /// The parameters of the transport.
    Parameters,
    /// Kernel name and version.
    Info,
    /// A diagnostics group that almost no device has.
    Memfault,
    /// The name of the boot loader.
    Bootloader,
    /// The active slot, from a boot loader that does not swap.
    ActiveSlot,
    /// How the boot loader installs.
    BootloaderMode,
}

/// How a client reacts when an answer names another offset than the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOffset {
    /// Android: it sends a piece from that offset again, alone; requests in flight are still answered.
    Resend,
    /// iOS: it waits for the answers to all requests in flight and continues from the last one's offset.
    Drain,
}

/// How a client handles another image that runs unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTrial {
    /// Android: reset, so that the previous image comes back; then start over.
    Reset,
    /// iOS: confirm the image in slot 1, then upload.
    ConfirmOther,
    /// Confirm the running image.
    ConfirmRunning,
}

/// How long to wait for answers, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To the first piece, for which servers erase.
    pub first_piece: u32,
    /// To the other pieces.
    pub piece: u32,
    /// To the last piece, if the window is larger than 1.
    pub last_piece: u32,
    /// To the list of images.
    pub list: u32,
    /// To everything else.
    pub other: u32,
}

/// How the applications differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mode of the update.
    pub mode: Mode,
    /// Upload requests in flight, 1 to [`MAX_WINDOW`](super::MAX_WINDOW).
    pub window: u8,
    /// A frame is this many bytes shorter than the device accepts.
    pub frame_margin: u8,
    /// The length of each piece but the last is a multiple of this.
    pub alignment: u8,
    /// Probes of every connection.
    pub on_connect: &'static [Probe],
    /// Probes of the first connection.
    pub introduction: &'static [Probe],
    /// Probes before the list of images.
    pub before_install: &'static [Probe],
    /// How long to wait for answers.
    pub patience: Patience,
    /// Number of times a request is sent, with the same sequence number, before silence is a failure; at least 1.
    pub tries: u8,
    /// Pause before it is sent again, in ms.
    pub pause_between_tries_ms: u32,
    /// A piece that fails (silence, refusal, link lost) is sent again at once with another sequence number, up to this
    /// many times; 0: pieces are treated like all other requests.
    pub piece_failures: u8,
    /// How to react to an answer that names another offset.
    pub on_offset: OnOffset,
    /// After a link lost during an upload, the client reconnects and continues the upload without `len` and `sha`.
    pub continues_upload: bool,
    /// An upload that the server restarts names its `sha` again.
    pub restarts_with_sha: bool,
    /// An answer with an unknown sequence number is an error; otherwise it is ignored.
    pub is_strict_about_sequence: bool,
    /// A link that ends before the answer to a reset counts as a reset.
    pub tolerates_silent_reset: bool,
    /// The images are listed before one of them is confirmed.
    pub lists_before_confirm: bool,
    /// How to handle another image on trial.
    pub on_trial: OnTrial,
    /// Pause after the list of images, in ms.
    pub pause_after_list_ms: u32,
    /// Pause between a lost link and the next one, in ms.
    pub reconnect_ms: u32,
    /// Pause between a reset and the next link, in ms: the estimated swap time.
    pub swap_ms: u32,
}

impl Settings {
    /// nRF Connect Device Manager for Android.
    pub const fn android() -> Self {
        use Probe::{ActiveSlot, Bootloader, BootloaderMode, Info, Memfault, Parameters, ParametersV1};
        Self {
            mode: Mode::TestAndConfirm,
            window: 3,
            frame_margin: 0,
            alignment: 4,
            on_connect: &[ParametersV1],
            introduction: &[Parameters, Info, Memfault, Bootloader, ActiveSlot, BootloaderMode],
            before_install: &[Bootloader, BootloaderMode],
            patience: Patience {
                first_piece: 40_000,
                piece: 2_500,
                last_piece: 20_000,
                list: 5_000,
                other: 2_500,
            },
            tries: 1,
            pause_between_tries_ms: 0,
            piece_failures: 5,
            on_offset: OnOffset::Resend,
            continues_upload: true,
            restarts_with_sha: true,
            is_strict_about_sequence: false,
            tolerates_silent_reset: true,
            lists_before_confirm: false,
            on_trial: OnTrial::Reset,
            pause_after_list_ms: 0,
            reconnect_ms: 1_000,
            swap_ms: 1_000,
        }
    }

    /// nRF Connect Device Manager for iOS.
    pub const fn ios() -> Self {
        use Probe::{Bootloader, BootloaderMode, Info, Parameters};
        Self {
            frame_margin: 5,
            on_connect: &[],
            introduction: &[Parameters, Info, Bootloader],
            before_install: &[Parameters, Bootloader, BootloaderMode],
            patience: Patience {
                first_piece: 40_000,
                piece: 10_000,
                last_piece: 10_000,
                list: 40_000,
                other: 40_000,
            },
            tries: 3,
            pause_between_tries_ms: 10_000,
            piece_failures: 0,
            on_offset: OnOffset::Drain,
            continues_upload: false,
            tolerates_silent_reset: false,
            lists_before_confirm: true,
            on_trial: OnTrial::ConfirmOther,
            pause_after_list_ms: 100,
            ..Self::android()
        }
    }

    /// The Python library smpclient, used as `smpmgr upgrade --slot 1` does.
    pub const fn smpclient() -> Self {
        Self {
            window: 1,
            frame_margin: 0,
            alignment: 1,
            on_connect: &[Probe::Parameters],
            introduction: &[],
            before_install: &[],
            patience: Patience {
                first_piece: 40_000,
                piece: 2_500,
                last_piece: 2_500,
                list: 2_000,
                other: 2_000,
            },
            tries: 1,
            pause_between_tries_ms: 0,
            restarts_with_sha: false,
            is_strict_about_sequence: true,
            on_trial: OnTrial::ConfirmRunning,
            pause_after_list_ms: 0,
            ..Self::ios()
        }
    }
}
