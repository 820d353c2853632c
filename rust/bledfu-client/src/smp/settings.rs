// SPDX-License-Identifier: Apache-2.0
//! What differs between the applications, and what they work on.

/// What is to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'i> {
    /// The signed image, as imgtool made it.
    pub bytes: &'i [u8],
    /// SHA-256 of `bytes`, by which an upload is known again.
    pub sha: [u8; 32],
    /// The hash in the image's TLVs, by which images are listed.
    pub hash: [u8; 32],
}

/// Memory of a client. A request is never longer than `request`, whatever the device says; an answer that does not fit
/// into `answer` is a failure. 4096 and 2508 bytes are what the applications have.
#[derive(Debug)]
pub struct Buffers<'b> {
    /// For the request that is being written.
    pub request: &'b mut [u8],
    /// For the answer that is being received.
    pub answer: &'b mut [u8],
}

/// What the user of the application chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The image runs once; the client confirms it when it meets it again.
    TestAndConfirm,
    /// The image runs once; it has to confirm itself.
    TestOnly,
    /// The image is installed for good, untested.
    ConfirmOnly,
    /// Upload and reset; the image is not marked.
    UploadOnly,
}

/// What an application asks about the device. It may refuse all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The parameters of the transport, in version 1 and with sequence number 255.
    ParametersV1,
    /// The parameters of the transport.
    Parameters,
    /// Kernel name and version.
    Info,
    /// A group for diagnostics that hardly a device has.
    Memfault,
    /// The name of the boot loader.
    Bootloader,
    /// Which slot runs, of a boot loader that does not swap.
    ActiveSlot,
    /// How the boot loader installs.
    BootloaderMode,
}

/// What a client does when an answer names another byte than the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOffset {
    /// Android: a piece from that byte on is sent again, alone; requests under way go on being answered.
    Resend,
    /// iOS: it waits for the answers to all requests under way and goes on from the byte that the last one names.
    Drain,
}

/// What a client does about an image of somebody else's that runs unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTrial {
    /// Android: reset, so that the image before it comes back; then all over again.
    Reset,
    /// iOS: the image in slot 1 is confirmed, then it uploads.
    ConfirmOther,
    /// What runs is confirmed.
    ConfirmRunning,
}

/// How long answers are waited for, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Of the first piece, for which servers erase.
    pub first_piece: u32,
    /// Of the others.
    pub piece: u32,
    /// Of the last, if the window is larger than 1.
    pub last_piece: u32,
    /// Of the list of images.
    pub list: u32,
    /// Of everything else.
    pub other: u32,
}

/// What differs between the applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is to be done.
    pub mode: Mode,
    /// Upload requests under way at once, 1 to [`MAX_WINDOW`](super::MAX_WINDOW).
    pub window: u8,
    /// A frame stays so many bytes below what the device takes.
    pub frame_margin: u8,
    /// Pieces of an image are a multiple of this long, but for the last.
    pub alignment: u8,
    /// Asked in every connection.
    pub on_connect: &'static [Probe],
    /// Asked in the first connection.
    pub introduction: &'static [Probe],
    /// Asked before the list of images.
    pub before_install: &'static [Probe],
    /// How long answers are waited for.
    pub patience: Patience,
    /// Times a request is sent, with the same sequence number, before silence is a failure; at least 1.
    pub tries: u8,
    /// Pause before it is sent again, in ms.
    pub pause_between_tries_ms: u32,
    /// A piece that fails (silence, refusal, link lost) is sent again at once with another sequence number, up to so many
    /// times; 0: pieces are requests as all others.
    pub piece_failures: u8,
    /// What is done about an answer that names another byte.
    pub on_offset: OnOffset,
    /// A lost link in an upload is followed by another one, where the upload goes on without `len` and `sha`.
    pub continues_upload: bool,
    /// An upload that the server begins again names its `sha` again.
    pub restarts_with_sha: bool,
    /// An answer with a sequence number that is not under way is an error; else it is ignored.
    pub is_strict_about_sequence: bool,
    /// A link that ends before the reset was answered is a reset, too.
    pub tolerates_silent_reset: bool,
    /// The images are listed before one of them is confirmed.
    pub lists_before_confirm: bool,
    /// What is done about an image of somebody else's on trial.
    pub on_trial: OnTrial,
    /// Pause after the list of images, in ms.
    pub pause_after_list_ms: u32,
    /// From a lost link to the next one, in ms.
    pub reconnect_ms: u32,
    /// From a reset to the next link, in ms: the estimated swap time.
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
