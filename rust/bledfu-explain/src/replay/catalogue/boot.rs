// SPDX-License-Identifier: Apache-2.0
//! The boot stage.

use super::Entry;

pub const ENTRIES: &[Entry] = &[
    Entry {
        id: "B1",
        title: "the boot stage refuses the update",
        causes: &[
            "the key in the boot stage is not the one that signed",
            "the flash holds other bytes, or external flash is read wrongly or slowly by the boot stage",
            "a truncated or another file",
        ],
        checks: &[
            "`bledfu inspect IMAGE --image-key KEY` or `imgtool verify`",
            "compare the slot with the file",
            "SPI settings in the boot stage's build",
        ],
        bledfu: "refuses such an image before it is staged; the boot stage erases it and leaves the primary slot alone",
    },
    Entry {
        id: "B2",
        title: "no room to swap",
        causes: &["image, one more sector and trailer are larger than the slot"],
        checks: &["a smaller image, a primary slot one sector larger, or another algorithm", "the request stays: see M5"],
        bledfu: "knows the limit at the first piece (error 30, or 04), and takes invalid requests down",
    },
    Entry {
        id: "B3",
        title: "no image to start",
        causes: &[
            "the primary slot holds an image that is not signed, or lies at another place",
            "erased by an update that was interrupted",
            "a boot stage for another layout",
        ],
        checks: &["partition addresses in both builds"],
        bledfu: "repairs an invalid primary image with a valid one from another place",
    },
    Entry {
        id: "B4",
        title: "the slots do not fit each other",
        causes: &[
            "external flash is not set up in the boot stage's build",
            "sectors of unequal size, or too many",
        ],
        checks: &["a page size of 4096 in the layout", "the overlay of the boot stage's build"],
        bledfu: "such a layout does not build",
    },
    Entry {
        id: "B5",
        title: "the update was taken back",
        causes: &[
            "nobody confirmed it: no call of boot_write_img_confirmed()",
            "its self-test failed, or a watchdog reset it before",
            "the client confirms after it has given up",
        ],
        checks: &["confirm after the self-test", "\"test and confirm\" in the client"],
        bledfu: "does the same: a test image that does not confirm itself is taken back once, and then stays away",
    },
    Entry {
        id: "B6",
        title: "the request is not seen",
        causes: &[
            "the trailer was torn, or not erased before",
            "boot stage and application disagree on the slot or its write unit",
            "a flash write failed",
        ],
        checks: &["the last 16 bytes of the slot", "the same MCUboot settings in both builds"],
        bledfu: "reads the request back before it answers; a damaged magic is repaired by erasing and sending again",
    },
    Entry {
        id: "B7",
        title: "a flash does not open",
        causes: &["external flash is absent, without power, or slow to wake in the boot stage"],
        checks: &["its driver in the boot stage's build, and the delays after power on"],
        bledfu: "resets after a second and tries again",
    },
];
