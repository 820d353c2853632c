// SPDX-License-Identifier: Apache-2.0
//! The operations of a boot, in the order in which a running MCUboot does them.

use bledfu_slot::trailer::SwapType;
use bledfu_slot::Algorithm;
use bledfu_swap::BootAction;
use bledfu_testkit::{Op, SECTOR};

use crate::common::campaign::Subject;
use crate::device::{layout, Device};

/// Two images in 64 KiB slots with 4 KiB of scratch: the operations in the order of `swap_scratch.c`.
#[test]
fn scratch_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::SwapScratch, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    let size: String = (device.new.len() as u32)
        .to_le_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    for (info, blank) in [("02", "C s 2"), ("04", "C x 0")] {
        device.power.record();
        device.boot().unwrap();
        let mut expected = vec!["E x 0".into(), format!("W x 0FD8={info}ffffff")];
        expected.extend([format!("W x 0FD0={size}"), "M x 0FF0".into()]);
        expected.extend(["E p f".into(), format!("W p FFD8={info}ffffff")]);
        expected.extend([format!("W p FFD0={size}"), "M p FFF0".into(), "E x 0".into()]);
        for (index, sector) in [2, 1, 0].into_iter().enumerate() {
            let record = |state: usize| {
                let at = 0xF9D0 + 4 * (3 * index + state - 1);
                format!("W p {at:04X}={state:02x}ffffff")
            };
            if index > 0 {
                expected.push("E x 0".into());
            }
            expected.extend(["C x 0".into(), record(1)]);
            if index == 0 {
                expected.push("E s f".into());
            }
            expected.extend([format!("E s {sector}"), format!("C s {sector}"), record(2)]);
            expected.extend([format!("E p {sector}"), format!("C p {sector}"), record(3)]);
        }
        // The third sector of the old image is blank.
        let at = expected.iter().position(|line| line == blank).unwrap();
        expected.remove(at);
        if info == "04" {
            let at = expected.iter().position(|line| line == "C p 2").unwrap();
            expected.remove(at);
            expected.push("W p FFE8=01ffffff".into());
        }
        expected.push("W p FFE0=01ffffff".into());
        assert_eq!(script(&device.power.recorded()), expected);
    }
}

#[test]
fn scratch_keeps_the_job_in_scratch_while_the_trailer_sector_is_exchanged() {
    let new = 0xF9D0 - 0x200 - 160;
    let mut device = Device::new(layout(Algorithm::SwapScratch, (16, 16), 8, 128), 6000, new);
    device.upload(true);
    let size: String = (device.new.len() as u32)
        .to_le_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    device.power.record();
    device.boot().unwrap();
    let (in_scratch, in_primary) = (format!("W x 0FD0={size}"), format!("W p FFD0={size}"));
    let expected = [
        "E x 0",
        "W x 0FD8=03ffffff",
        "W x 0FE8=01ffffff",
        &in_scratch,
        "M x 0FF0",
        "C x 0",
        "W x 0FC4=01ffffff",
        "E s f",
        "W x 0FC8=02ffffff",
        "E p f",
        "C p f",
        "W p F9D0=01ffffff02ffffff",
        "W p FFE8=01ffffff",
        "W p FFD8=03ffffff",
        &in_primary,
        "M p FFF0",
        "W p F9D8=03ffffff",
        "E x 0",
        "E x 0",
        "C x 0",
        "W p F9DC=01ffffff",
    ];
    let found = script_of_all(&device.power.recorded());
    assert_eq!(found[..expected.len()], expected);
}

/// The operations of a boot as text; a copy is shortened to the sector that it fills.
fn script(ops: &[Op]) -> Vec<String> {
    let mut out = script_of_all(ops);
    out.dedup();
    out
}

/// Like [`script`], but with all erases that follow each other in the same place.
fn script_of_all(ops: &[Op]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for op in ops {
        let line = match op {
            Op::Erase { chip, sector } => format!("E {chip} {sector:x}"),
            Op::Write { chip, offset, bytes } if bytes.len() > 16 => {
                format!("C {chip} {:x}", offset / SECTOR as u32)
            }
            Op::Write { chip, offset, bytes } if bytes.len() == 16 => format!("M {chip} {offset:04X}"),
            Op::Write { chip, offset, bytes } => {
                let value: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("W {chip} {offset:04X}={value}")
            }
        };
        if line.starts_with('E') || out.last() != Some(&line) {
            out.push(line);
        }
    }
    out
}

/// Upgrade and revert between 6 KB and 11 KB images in 64 KiB slots: the operations that MCUboot does.
#[test]
fn move_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::SwapMove, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    let new_size = (device.new.len() as u32).to_le_bytes();
    let size: String = new_size.iter().map(|b| format!("{b:02x}")).collect();
    let exchange = [
        "E p 3",
        "C p 3",
        "W p F9D0=01ffffff",
        "E p 2",
        "C p 2",
        "W p F9D4=01ffffff",
        "E p 1",
        "C p 1",
        "W p F9D8=01ffffff",
        "E p 0",
        "C p 0",
        "W p FBD0=01ffffff",
        "E s 0",
        "C s 0",
        "W p FBD4=02ffffff",
        "E p 1",
        "C p 1",
        "W p FBD8=01ffffff",
        "E s 1",
        "C s 1",
        "W p FBDC=02ffffff",
        "E p 2",
        "C p 2",
        "W p FBE0=01ffffff",
        "E s 2",
        "C s 2",
        "W p FBE4=02ffffff",
    ];
    let strings = |parts: &[&str]| parts.iter().map(|part| part.to_string()).collect::<Vec<_>>();

    device.power.record();
    device.boot().unwrap();
    let mut expected = strings(&["E p f", "W p FFD8=02ffffff"]);
    expected.push(format!("W p FFD0={size}"));
    expected.extend(strings(&["M p FFF0", "E s f"]));
    expected.extend(strings(&exchange));
    expected.push("W p FFE0=01ffffff".into());
    // The old image is shorter: its third sector is blank, and a copy of a blank sector writes nothing.
    let blank = ["C p 3", "C s 2"];
    expected.retain(|line| !blank.contains(&line.as_str()));
    assert_eq!(script(&device.power.recorded()), expected);

    device.power.record();
    device.boot().unwrap();
    let mut expected = strings(&["E s f", "W s FFE8=01ffffff"]);
    expected.push(format!("W s FFD0={size}"));
    expected.extend(strings(&[
        "M s FFF0",
        "E p f",
        "W p FFD8=04ffffff",
        "W p FFE8=01ffffff",
    ]));
    expected.push(format!("W p FFD0={size}"));
    expected.extend(strings(&["M p FFF0", "E s f"]));
    expected.extend(strings(&exchange));
    expected.push("W p FFE0=01ffffff".into());
    assert_eq!(
        script(&device.power.recorded()),
        remove_blank_revert_copy(expected)
    );
}

/// In the revert, the third sector of the old image is blank in the secondary, so it is not copied into the primary.
fn remove_blank_revert_copy(mut lines: Vec<String>) -> Vec<String> {
    let last = lines.iter().rposition(|line| line == "C p 2").unwrap();
    lines.remove(last);
    lines
}

#[test]
fn overwrite_does_the_operations_of_mcuboot_in_its_order() {
    let mut device = Device::new(layout(Algorithm::Overwrite, (16, 16), 8, 128), 6000, 11000);
    device.upload(false);
    device.power.record();
    let report = device.boot().unwrap();
    assert_eq!(
        report.action,
        BootAction::Installed {
            swap_type: SwapType::Test,
            resumed: false
        }
    );
    let found = script(&device.power.recorded());
    assert_eq!(
        found,
        ["E p 0", "E p 1", "E p 2", "E p f", "C p 0", "C p 1", "C p 2", "M p FFF0", "E s 0", "E s f"]
    );
}
