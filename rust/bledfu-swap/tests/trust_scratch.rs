// SPDX-License-Identifier: Apache-2.0
//! An external scratch area that claims a job: it is believed only if the evidence or the images agree.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::Algorithm;
use bledfu_testkit::{Image, Tear};
use trust::{Claim, Device, POLICIES};

/// What a forged scratch area says: swap type, confirmation flag, records, size of the job.
#[derive(Clone, Copy, Debug)]
struct Forged {
    kind: u8,
    image_ok: u8,
    records: u32,
    size: u32,
}

impl Forged {
    /// All combinations that may be of use to an attacker.
    fn all(limit: u32) -> impl Iterator<Item = Self> {
        let kinds = [(2, 0xFF), (3, 1), (4, 0xFF)];
        let sizes = [limit, limit - 4, limit - 5000, 9500];
        (0..5).flat_map(move |records| {
            sizes.into_iter().flat_map(move |size| {
                kinds.map(|(kind, image_ok)| Self {
                    kind,
                    image_ok,
                    records,
                    size,
                })
            })
        })
    }

    fn write(self, device: &mut Device) {
        let trailer = device.layout.spare_trailer().unwrap();
        let start = trailer.status_start() as usize;
        device.spare.bytes.fill(0x5A);
        device.spare.bytes[start..].fill(0xFF);
        device.spare.load(trailer.swap_info() as usize, &[self.kind]);
        device.spare.load(trailer.image_ok() as usize, &[self.image_ok]);
        device
            .spare
            .load(trailer.swap_size() as usize, &self.size.to_le_bytes());
        device
            .spare
            .load(trailer.magic() as usize, &magic_bytes(trailer.max_align()));
        for record in 0..self.records {
            let at = trailer.status_start() + record * trailer.status_unit();
            device.spare.load(at as usize, &[1 + record as u8 % 3]);
        }
    }
}

/// Runs `test` with every forged scratch area and every size of A, with these bytes in the secondary.
fn each_forgery(secondary: impl Fn(&Device) -> Vec<u8>, test: impl Fn(Device, String)) {
    for spare in [1, 2, 4] {
        let probe = Device::<4>::with_spare(Algorithm::SwapScratch, POLICIES[0], [9000; 2], spare);
        let limit = probe.layout.max_image_size();
        // A reaches into the region that is exchanged first, or not.
        for payload in [limit - 800, limit - 5800, 9000] {
            let mut start =
                Device::<4>::with_spare(Algorithm::SwapScratch, POLICIES[0], [payload, limit - 900], spare);
            assert_eq!(start.boots(), "A");
            start.secondary.load(0, &secondary(&start));
            for forged in Forged::all(limit) {
                let mut device = start.fork();
                forged.write(&mut device);
                test(device, format!("{spare} sectors, A of {payload}, {forged:?}"));
            }
        }
    }
}

// boot-trust case 16
#[test]
fn a_forged_job_in_scratch_beside_a_mere_header_leaves_the_primary_alone() {
    each_forgery(
        |device| {
            let limit = device.layout.max_image_size();
            let mut header = Image::bare(0x200, limit - 0x400, 77).bytes();
            header[0x200..].fill(0xA5);
            header
        },
        |mut device, what| {
            let primary = device.primary.bytes.clone();
            let size = device.images.a.len();
            assert_eq!(device.resets(3), ["A"; 3], "{what}");
            assert_eq!(device.primary.bytes[..size], primary[..size], "{what}");
        },
    );
}

// boot-trust case 17
#[test]
fn a_forged_job_in_scratch_installs_no_old_image() {
    each_forgery(
        |device| device.images.old.clone(),
        |mut device, what| {
            for runs in device.resets(3) {
                assert_eq!(runs, "A", "{what}");
            }
        },
    );
}

// boot-trust case 18
#[test]
fn a_forged_job_in_scratch_installs_a_genuine_image_whole_or_not_at_all() {
    each_forgery(
        |device| device.images.b.clone(),
        |mut device, what| {
            for runs in device.resets(3) {
                assert!(runs == "A" || runs == "B", "{what}: {runs}");
            }
        },
    );
}

// boot-trust case 19
#[test]
fn a_job_in_scratch_that_another_boot_stage_began_is_finished() {
    let probe = Device::<4>::fresh(Algorithm::SwapScratch, POLICIES[0]);
    let limit = probe.layout.max_image_size() - 900;
    // Both images reach into the region that is exchanged first, so that its job is kept in scratch.
    let mut start = Device::<4>::fresh_of(Algorithm::SwapScratch, POLICIES[0], [limit, limit]);
    start.evidence = false;
    start.upload_b(Claim::Permanent);
    let mut in_scratch = 0;
    for (operation, mut device) in start.each_cut() {
        let trailer = device.layout.spare_trailer().unwrap();
        let magic = trailer.magic() as usize;
        if device.spare.bytes[magic..] == magic_bytes(8) {
            in_scratch += 1;
        }
        // This boot stage has a trust area and has never written it.
        device.evidence = true;
        assert_eq!(device.resets(2), ["B"; 2], "operation {operation}");
    }
    assert!(in_scratch > 5, "{in_scratch}");
    // And a cut inside an operation of it.
    for operation in 0..40 {
        let mut device = start.fork();
        let tear = Tear::Inside {
            percent: 50,
            seed: operation,
        };
        if !device.is_cut_at(operation, tear) {
            break;
        }
        device.evidence = true;
        assert_eq!(device.resets(2), ["B"; 2], "inside operation {operation}");
    }
}
