// SPDX-License-Identifier: Apache-2.0
//! SMP.

use super::Entry;

pub const ENTRIES: &[Entry] = &[
    Entry {
        id: "M1",
        title: "the device does not tell its buffers",
        causes: &["its firmware has no command for the parameters; frames stay small, and that is all"],
        checks: &["CONFIG_MCUMGR_GRP_OS_MCUMGR_PARAMS=y makes uploads faster"],
        bledfu: "answers the command",
    },
    Entry {
        id: "M2",
        title: "the first piece waits for an erase",
        causes: &["the whole slot is erased inside the first request", "the slot was not empty"],
        checks: &[
            "erase progressively (CONFIG_IMG_ERASE_PROGRESSIVELY), or erase the slot before the upload",
            "a longer time-out in the client",
        ],
        bledfu: "answers the first piece within 2 s at the maximum times of the flash",
    },
    Entry {
        id: "M3",
        title: "pieces are lost in the middle",
        causes: &[
            "the device has fewer frame buffers than the client has requests in flight",
            "no buffer was left for the answer",
            "its work queue is blocked",
        ],
        checks: &[
            "a window of 1 in the client",
            "more buffers: CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT, CONFIG_BT_L2CAP_TX_BUF_COUNT",
        ],
        bledfu: "takes whole frames only, and answers each request",
    },
    Entry {
        id: "M4",
        title: "the first piece is refused",
        causes: &["an old server: the slot is in use", "no memory for its flash context"],
        checks: &["`image list`; see M5", "more heap"],
        bledfu: "never sends this code; a slot in use is error 9",
    },
    Entry {
        id: "M5",
        title: "the slot is not free",
        causes: &[
            "an update waits in it for the next boot",
            "the running image is not confirmed",
            "a trailer is left over that the boot stage cannot act on (B2)",
        ],
        checks: &["reset, and see which image starts", "confirm the running image", "`image erase`, or else a debugger"],
        bledfu: "answers error 9 with a sentence that says what ends it; the slot is free once the image is confirmed",
    },
    Entry {
        id: "M6",
        title: "no image with this hash",
        causes: &[
            "the SHA-256 of the file was given, not the hash in the image's TLVs",
            "the image is not there, or not valid",
            "the slot was erased meanwhile",
        ],
        checks: &["the hash in `image list`", "upload the signed file"],
        bledfu: "answers error 8: no image on the device has this hash",
    },
    Entry {
        id: "M7",
        title: "the image cannot be marked",
        causes: &[
            "a hash of the wrong length, a test of the running image, or nothing to confirm",
            "the same image in both slots",
            "a flash error",
        ],
        checks: &["`image list` first", "SMP version 2, which tells more"],
        bledfu: "has a named error for each",
    },
    Entry {
        id: "M8",
        title: "a frame that the transport does not take",
        causes: &["the device announces larger buffers than its transport takes", "a length that is not that of the frame"],
        checks: &["announce the true size", "the option for reassembly"],
        bledfu: "takes a frame of exactly the announced size",
    },
    Entry {
        id: "M9",
        title: "busy, or denied",
        causes: &["busy with flash; a client repeats the request", "the application denied it: battery, version"],
        checks: &["try again", "battery and version of the device"],
        bledfu: "code 11 means that the product denied it",
    },
    Entry {
        id: "M10",
        title: "the file is not an image for this device",
        causes: &[
            "a zip, an unsigned or a merged file",
            "larger than the slot without its trailer",
            "an older version than the running one",
        ],
        checks: &["zephyr.signed.bin", "`bledfu inspect FILE`", "the size of the slot"],
        bledfu: "refuses it by its first bytes, with the same errors",
    },
    Entry {
        id: "M11",
        title: "the device does not store the pieces",
        causes: &[
            "the flash cannot be written, and that fails silently",
            "the write alignment cuts each piece",
            "pieces are lost",
        ],
        checks: &["the log of the flash driver", "an alignment of 4"],
        bledfu: "takes a piece whole; a failed write is error 12",
    },
    Entry {
        id: "M12",
        title: "the upload began again",
        causes: &["the device was reset", "another file, or a short `sha`", "an error ended the session"],
        checks: &["the same file, with its full SHA-256", "a newer server"],
        bledfu: "goes on at the byte after a lost link, at the sector after a reset",
    },
    Entry {
        id: "M13",
        title: "what is stored has another SHA-256",
        causes: &[
            "the flash holds other bytes than were sent",
            "another area was erased",
            "the `sha` was of something else",
        ],
        checks: &["read the slot back", "the version of the client"],
        bledfu: "says so after the last piece, and the upload is over",
    },
    Entry {
        id: "M14",
        title: "the old version runs after the reset",
        causes: &[
            "the client only uploaded",
            "the mark was refused: downgrade prevention",
            "the trailer could not be written; or B1 to B6",
        ],
        checks: &["`image list` after the test command", "the log of the boot stage"],
        bledfu: "reads the trailer back before it answers",
    },
    Entry {
        id: "M15",
        title: "no MTU, or pairing first",
        causes: &["the phone's stack refuses an MTU of 498", "the device wants an authenticated link"],
        checks: &["CONFIG_BT_L2CAP_TX_MTU=498", "the security option of the transport"],
        bledfu: "smp.conf sets 498, and there are three levels of security",
    },
    Entry {
        id: "M16",
        title: "no answer to the reset",
        causes: &[
            "the device is reset before the answer is out",
            "the swap takes longer than the client waits",
            "another address or name afterwards",
        ],
        checks: &["answer, then wait 250 ms", "the estimated swap time in the client"],
        bledfu: "answers first; `bledfu update` tells how long the install takes",
    },
];
