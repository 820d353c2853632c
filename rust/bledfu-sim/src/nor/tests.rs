// SPDX-License-Identifier: Apache-2.0
use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use super::*;
use crate::hostile::{Choice, Weak};
use crate::parts::{EFR32MG24, MX25R6435F, NRF52840, NRF54L15, STM32WB55, STM32WBA52, W25Q64};

#[repr(align(4))]
struct Buffer<const N: usize>([u8; N]);

#[test]
fn weak_bytes_and_wrong_reads_belong_to_the_chip() {
    let power = Power::new();
    power.set_weak(Some(Weak {
        choice: Choice::Boots(0b01),
        seed: 1,
    }));
    let chip = Chip::with_size("external", &MX25R6435F, 8192, &power);
    let mut area = chip.area(4096, 4096).unwrap();
    let inside = Tear::Inside {
        fraction: 0.5,
        seed: 0,
    };
    power.cut_at(0, inside);
    assert_eq!(area.write(0, &Buffer([7; 4]).0), Err(NorError::PowerOff));
    let read = |area: &mut Area| {
        let mut found = Buffer([0; 4]);
        power.power_on();
        area.read(0, &mut found.0).map(|()| found.0)
    };
    assert_eq!([read(&mut area), read(&mut area)], [Ok([7; 4]), Ok([0xFF; 4])]);
    assert!(chip.is_weak(4096..4097) && !chip.is_weak(0..4096));
    area.write(0, &Buffer([7; 4]).0).unwrap();
    assert!(!chip.is_weak(4096..8192));
    assert_eq!([read(&mut area), read(&mut area)], [Ok([7; 4]), Ok([7; 4])]);
    chip.set_misreads(Misreads {
        blank: 0..1,
        ..Misreads::none()
    });
    assert_eq!([read(&mut area), read(&mut area)], [Ok([0xFF; 4]), Ok([7; 4])]);
    power.cut_at(2, inside);
    assert_eq!(area.erase(0, 4096), Err(NorError::PowerOff));
    assert!(chip.is_weak(4096..4100) && !chip.is_weak(4100..8192));
    power.power_on();
    area.erase(0, 4096).unwrap();
    assert!(!chip.is_weak(4096..8192));
}

const SIZE: u32 = 256 * 1024;

fn chip() -> (Power, Chip, Area) {
    let power = Power::new();
    let chip = Chip::with_size("external", &MX25R6435F, SIZE, &power);
    let area = chip.area(0, SIZE).unwrap();
    (power, chip, area)
}

fn read<U: Units>(area: &mut Area<U>, offset: u32, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    area.read(offset, &mut out).unwrap();
    out
}

#[test]
fn a_program_clears_bits_and_an_erase_sets_them() {
    let (_, _, mut area) = chip();
    area.write(0x1000, &Buffer([0xA5; 8]).0).unwrap();
    assert_eq!(
        read(&mut area, 0xFFC, 16),
        [&[0xFF; 4][..], &[0xA5; 8], &[0xFF; 4]].concat()
    );
    area.write(0x1000, &Buffer([0x21; 8]).0).unwrap();
    area.erase(0x1000, 0x2000).unwrap();
    assert!(area.contents().iter().all(|b| *b == 0xFF));
}

#[test]
fn setting_a_bit_is_an_error_but_the_other_bits_are_programmed() {
    let (_, _, mut area) = chip();
    area.write(0, &Buffer([0x0F, 0xFF, 0xFF, 0xFF]).0).unwrap();
    let error = area.write(0, &Buffer([0xF1, 0x12, 0x34, 0x56]).0).unwrap_err();
    assert_eq!(
        error,
        NorError::NotErased {
            address: 0,
            held: 0x0F,
            wanted: 0xF1
        }
    );
    assert_eq!(read(&mut area, 0, 4), [0x01, 0x12, 0x34, 0x56]);
}

#[test]
fn misaligned_address_length_and_buffer_are_refused_without_an_operation() {
    let (power, _, mut area) = chip();
    let bytes = Buffer([0; 12]).0;
    let buffer = Buffer(bytes);
    assert_eq!(
        area.write(2, &buffer.0[..4]).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(
        area.write(0, &buffer.0[..6]).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(area.write(0, &buffer.0[1..9]), Err(NorError::BufferNotAligned));
    assert_eq!(
        area.erase(0, 100).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(
        area.read(1, &mut [0; 4]).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(
        area.read(0, &mut [0; 3]).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(power.ops(), 0);
}

#[test]
fn an_area_refuses_accesses_beyond_its_end() {
    let (_, chip, _) = chip();
    let mut area = chip.area(0x2000, 0x1000).unwrap();
    assert_eq!(
        area.write(0xFFC, &Buffer([0; 8]).0).unwrap_err().kind(),
        NorFlashErrorKind::OutOfBounds
    );
    assert_eq!(
        area.erase(0, 0x2000).unwrap_err().kind(),
        NorFlashErrorKind::OutOfBounds
    );
    assert_eq!(
        area.erase(0x1000, 0).unwrap_err().kind(),
        NorFlashErrorKind::OutOfBounds
    );
    assert_eq!(
        area.read(0x1000, &mut [0; 4]).unwrap_err().kind(),
        NorFlashErrorKind::OutOfBounds
    );
    assert_eq!(
        area.write(u32::MAX - 3, &Buffer([0; 4]).0).unwrap_err().kind(),
        NorFlashErrorKind::OutOfBounds
    );
    area.write(0, &Buffer([0; 4]).0).unwrap();
    assert_eq!(chip.contents()[0x2000..0x2004], [0; 4]);
    assert!(chip.area(0, SIZE + 4096).is_err());
    assert!(chip.area(100, 4096).is_err());
    assert!(chip.area(0xFFFF_F000, 0x2000).is_err());
}

#[test]
fn a_write_is_one_operation_per_page_it_touches() {
    let (power, chip, mut area) = chip();
    area.write(0, &Buffer([0; 512]).0).unwrap();
    assert_eq!(power.ops(), 2);
    area.write(1024 + 128, &Buffer([0; 256]).0).unwrap();
    assert_eq!(power.ops(), 4);
    let stats = chip.stats();
    assert_eq!((stats.programs, stats.program_bytes), (4, 768));
}

#[test]
fn an_erase_takes_the_biggest_commands_that_fit() {
    let (power, chip, mut area) = chip();
    // 4K up to 0x8000, 32K up to 0x10000, 64K, 32K, 4K.
    area.erase(0x6000, 0x29000).unwrap();
    let stats = chip.stats();
    assert_eq!((stats.erases_4k, stats.erases_32k, stats.erases_64k), (3, 2, 1));
    assert_eq!(stats.erased_bytes(), 0x23000);
    assert_eq!(power.ops(), 6);
    assert_eq!(chip.worst_wear(), 1);
}

#[test]
fn the_biggest_command_is_chosen_by_the_address_on_the_chip() {
    let (_, chip, _) = chip();
    let mut area = chip.area(0x8000, 0x10000).unwrap();
    area.erase(0, 0x10000).unwrap();
    assert_eq!((chip.stats().erases_32k, chip.stats().erases_64k), (2, 0));
}

#[test]
fn the_image_of_the_case_takes_the_time_on_the_performance_page() {
    let power = Power::new();
    let chip = Chip::new("external", &MX25R6435F, &power);
    let mut area = chip.area(0, 0x10_0000).unwrap();
    area.erase(0, 117 * 4096).unwrap();
    // 7 × 480 + 5 × 48 ms, and the commands on the bus.
    assert_eq!(chip.stats().busy_ns / 1_000_000, 3600);
    let before = chip.stats();
    let page = Buffer([0; 256]);
    for i in 0..1857 {
        area.write(i * 256, &page.0).unwrap();
    }
    let programs = chip.stats() - before;
    assert_eq!(programs.programs, 1857);
    assert_eq!(programs.busy_ns / 1_000_000, 1785);
    assert_eq!(power.now_ns(), chip.stats().busy_ns);
}

#[test]
fn internal_flash_takes_85_ms_a_page_and_42_us_a_word() {
    let power = Power::new();
    let chip = Chip::with_size("internal", &NRF52840, 8192, &power);
    let mut area = chip.area(0, 8192).unwrap();
    area.erase(0, 4096).unwrap();
    assert_eq!(power.take_busy_ns(), 85_000_000);
    area.write(0, &Buffer([0; 4096]).0).unwrap();
    assert_eq!(power.take_busy_ns(), 1024 * 42_000);
    assert_eq!(power.ops(), 17);
}

#[test]
fn worst_case_times_and_a_factor_apply() {
    let (power, chip, mut area) = chip();
    chip.set_times(Times::Maximum);
    area.erase(0, 4096).unwrap();
    assert_eq!(power.take_busy_ns() / 1_000_000, 384);
    chip.set_time_factor(2.0);
    area.erase(0, 4096).unwrap();
    assert_eq!(power.take_busy_ns() / 1_000_000, 768);
    chip.set_time_factor(0.0);
    area.erase(0, 4096).unwrap();
    assert_eq!(power.take_busy_ns(), 0);
}

#[test]
fn reading_costs_bus_time() {
    let (power, chip, mut area) = chip();
    read(&mut area, 0, 4096);
    // 4 MB/s at 8 MHz on four lines.
    assert_eq!(power.take_busy_ns(), (4096 * 2 + 14) * 125);
    assert_eq!((chip.stats().reads, chip.stats().read_bytes), (1, 4096));
    assert_eq!(power.ops(), 0);
}

#[test]
fn a_cut_before_an_operation_changes_nothing_and_silences_every_chip() {
    let power = Power::new();
    let external = Chip::with_size("external", &W25Q64, SIZE, &power);
    let internal = Chip::with_size("internal", &NRF52840, SIZE, &power);
    let (mut a, mut b) = (external.area(0, SIZE).unwrap(), internal.area(0, SIZE).unwrap());
    a.write(0, &Buffer([1; 4]).0).unwrap();
    power.cut_at(2, Tear::Before);
    b.write(0, &Buffer([2; 4]).0).unwrap();
    assert_eq!(a.write(256, &Buffer([3; 4]).0), Err(NorError::PowerOff));
    assert!(power.is_off());
    assert_eq!(b.erase(0, 4096), Err(NorError::PowerOff));
    assert_eq!(b.read(0, &mut [0; 4]), Err(NorError::PowerOff));
    assert_eq!(
        power.last_op().unwrap().to_string(),
        "operation 2: program 4 bytes at 0x000100 of external"
    );
    power.power_on();
    assert_eq!(read(&mut a, 256, 4), [0xFF; 4]);
    assert_eq!(read(&mut b, 0, 4), [2; 4]);
    a.write(256, &Buffer([3; 4]).0).unwrap();
    assert_eq!(power.ops(), 4);
}

#[test]
fn a_torn_program_leaves_a_prefix_and_one_half_cleared_byte() {
    let mut seen_between = false;
    for seed in 0..20 {
        let (power, _, mut area) = chip();
        power.cut_at(0, Tear::Inside { fraction: 0.5, seed });
        assert_eq!(area.write(0, &Buffer([0x00; 256]).0), Err(NorError::PowerOff));
        power.power_on();
        let left = read(&mut area, 0, 256);
        assert_eq!(left[..128], [0; 128]);
        assert_eq!(left[129..], [0xFF; 127]);
        seen_between |= left[128] != 0 && left[128] != 0xFF;
    }
    assert!(seen_between);
}

#[test]
fn a_torn_erase_leaves_a_prefix_a_border_and_the_old_rest() {
    let (power, _, mut area) = chip();
    for page in 0..32 {
        area.write(page * 256, &Buffer([0x5A; 256]).0).unwrap();
    }
    // The second block of the range: the first is erased whole.
    power.cut_at(
        power.ops() + 1,
        Tear::Inside {
            fraction: 0.25,
            seed: 7,
        },
    );
    assert_eq!(area.erase(0, 8192), Err(NorError::PowerOff));
    power.power_on();
    let left = read(&mut area, 0, 8192);
    assert!(left[..4096 + 1024].iter().all(|b| *b == 0xFF));
    let border = &left[4096 + 1024..4096 + 1024 + 256];
    assert!(border.iter().any(|b| *b != 0xFF && *b != 0x5A));
    assert!(left[4096 + 1024 + 256..].iter().all(|b| *b == 0x5A));
}

#[test]
fn a_cut_at_the_very_end_leaves_the_whole_effect() {
    let (power, _, mut area) = chip();
    power.cut_at(
        0,
        Tear::Inside {
            fraction: 1.0,
            seed: 0,
        },
    );
    assert_eq!(area.write(0, &Buffer([9; 16]).0), Err(NorError::PowerOff));
    power.power_on();
    assert_eq!(read(&mut area, 0, 20), [&[9; 16][..], &[0xFF; 4]].concat());
}

#[test]
fn an_injected_failure_hits_its_operation_only() {
    let (_, chip, mut area) = chip();
    chip.fail_at(1, Fault::Fail);
    area.write(0, &Buffer([1; 4]).0).unwrap();
    assert_eq!(
        area.write(4, &Buffer([1; 4]).0),
        Err(NorError::Failed { operation: 1 })
    );
    assert_eq!(read(&mut area, 0, 8), [1, 1, 1, 1, 255, 255, 255, 255]);
    area.write(4, &Buffer([1; 4]).0).unwrap();
}

#[test]
fn a_missing_completion_costs_the_timeout_whether_or_not_the_work_was_done() {
    for work_done in [false, true] {
        let (power, chip, mut area) = chip();
        chip.fail_at(0, Fault::NoCompletion { work_done });
        let error = area.write(0, &Buffer([1; 4]).0).unwrap_err();
        assert_eq!(error.to_string(), "operation 0 did not complete within 500 ms");
        assert_eq!(power.take_busy_ns(), 500_000_000);
        assert_eq!(area.contents()[0] == 1, work_done);
        chip.set_driver_timeout_ns(20_000_000);
        chip.fail_at(1, Fault::NoCompletion { work_done });
        assert!(area.erase(0, 4096).is_err());
        assert_eq!(power.take_busy_ns(), 20_000_000);
    }
}

#[test]
fn a_wrong_bit_is_only_found_by_reading_back() {
    let (_, chip, mut area) = chip();
    chip.fail_at(0, Fault::WrongBit);
    area.write(0, &Buffer([0x0F; 8]).0).unwrap();
    assert_ne!(read(&mut area, 0, 8), [0x0F; 8]);
}

#[test]
fn a_unit_with_an_error_code_is_written_once_or_with_zeros() {
    let power = Power::new();
    let chip = Chip::with_size("internal", &STM32WB55, 8192, &power);
    let mut area: Area<UnitsOf<8, 4096>> = chip.area_of(0, 8192, 8, 4096).unwrap();
    area.write(8, &Buffer([0x0F; 8]).0).unwrap();
    let ops = power.ops();
    let error = area.write(0, &Buffer([0x0E; 16]).0).unwrap_err();
    assert_eq!(error, NorError::WrittenBefore { address: 8, unit: 8 });
    assert_eq!(read(&mut area, 0, 8), [0xFF; 8], "nothing of it is done");
    assert!(area.write(8, &Buffer([0x0F; 8]).0).is_err(), "nor the same bytes");
    assert_eq!(power.ops(), ops);
    area.write(8, &Buffer([0; 8]).0).unwrap();
    area.erase(0, 4096).unwrap();
    area.write(8, &Buffer([0x0E; 8]).0).unwrap();
    assert_eq!(
        area.write(4, &Buffer([0; 8]).0).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
    assert_eq!(
        area.write(16, &Buffer([0; 4]).0).unwrap_err().kind(),
        NorFlashErrorKind::NotAligned
    );
}

#[test]
fn rram_needs_no_erase_and_a_torn_line_is_between_old_and_new() {
    let power = Power::new();
    let chip = Chip::with_size("internal", &NRF54L15, 4096, &power);
    let mut area: Area<UnitsOf<16, 4096>> = chip.area_of(0, 4096, 16, 4096).unwrap();
    area.write(0, &Buffer([0x0F; 16]).0).unwrap();
    area.write(0, &Buffer([0xF0; 16]).0).unwrap();
    assert_eq!(read(&mut area, 0, 16), [0xF0; 16]);
    let tear = Tear::Inside {
        fraction: 0.5,
        seed: 5,
    };
    power.cut_at(power.ops(), tear);
    assert_eq!(area.write(0, &Buffer([0x0F; 16]).0), Err(NorError::PowerOff));
    power.power_on();
    let left = read(&mut area, 0, 16);
    assert_eq!((&left[..8], &left[9..]), (&[0x0F; 8][..], &[0xF0; 7][..]));
    assert!(![0x00, 0x0F, 0xF0, 0xFF].contains(&left[8]), "{:#x}", left[8]);
}

#[test]
fn units_unsupported_by_part_or_type_are_refused() {
    let power = Power::new();
    let chip = |part| Chip::with_size("internal", part, 16384, &power);
    let refused = |result: Option<NorError>| matches!(result, Some(NorError::Units { .. }));
    assert!(refused(chip(&STM32WB55).area(0, 4096).err()), "words");
    let finer = chip(&STM32WB55).area_of::<AnyUnits>(0, 4096, 4, 4096);
    assert!(refused(finer.err()));
    let smaller_pages = chip(&EFR32MG24).area_of::<Words>(0, 8192, 4, 4096);
    assert!(refused(smaller_pages.err()));
    let other_type = chip(&STM32WBA52).area_of::<UnitsOf<32, 8192>>(0, 8192, 16, 8192);
    assert!(refused(other_type.err()));
    // A driver may ask for more than the part.
    let chip = chip(&STM32WB55);
    let mut area = chip.area_of::<AnyUnits>(0, 16384, 16, 8192).unwrap();
    assert!(area.write(8, &Buffer([0; 16]).0).is_err() && area.erase(4096, 12288).is_err());
    area.erase(8192, 16384).unwrap();
    assert_eq!((chip.stats().erases_4k, chip.stats().erased_bytes()), (2, 8192));
    assert!(area.with_units::<UnitsOf<8, 8192>>().is_err());
    assert_eq!(
        area.with_units::<UnitsOf<16, 8192>>().unwrap().size(),
        area.size()
    );
}

#[test]
fn pages_of_8_kib_are_counted_as_such() {
    let power = Power::new();
    let chip = Chip::with_size("internal", &STM32WBA52, 16384, &power);
    let mut area = chip.area_of::<UnitsOf<16, 8192>>(0, 16384, 16, 8192).unwrap();
    area.erase(0, 16384).unwrap();
    let stats = chip.stats();
    assert_eq!(
        (stats.erases_8k, stats.erases(), stats.erased_bytes()),
        (2, 2, 16384)
    );
    assert_eq!(chip.worst_wear(), 1);
}

#[test]
fn a_dead_chip_answers_nothing() {
    let (_, chip, mut area) = chip();
    chip.set_dead(true);
    assert_eq!(area.read(0, &mut [0; 4]), Err(NorError::NoAnswer));
    assert_eq!(area.erase(0, 4096), Err(NorError::NoAnswer));
    chip.set_dead(false);
    area.erase(0, 4096).unwrap();
}

fn folder(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("bledfu-nor-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_file_keeps_every_operation_and_belongs_to_one_process() {
    let folder = folder("file");
    let path = folder.join("internal.bin");
    let power = Power::new();
    let chip = Chip::open("internal", &NRF52840, &path, &power).unwrap();
    let mut area = chip.area(0x1000, 0x1000).unwrap();
    area.write(0, &Buffer([0x11; 8]).0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[0x1000..0x100A], {
        let mut want = [0x11; 10];
        want[8..].fill(0xFF);
        want
    });
    assert!(matches!(
        Chip::open("internal", &NRF52840, &path, &power),
        Err(OpenError::InUse { .. })
    ));
    power.cut_at(
        power.ops(),
        Tear::Inside {
            fraction: 0.5,
            seed: 1,
        },
    );
    area.erase(0, 0x1000).unwrap_err();
    let held = chip.contents();
    drop((chip, area));
    let again = Chip::open("internal", &NRF52840, &path, &Power::new()).unwrap();
    assert_eq!(again.contents(), held);
    drop(again);
    assert!(matches!(
        Chip::open("external", &MX25R6435F, &path, &power),
        Err(OpenError::WrongSize { .. })
    ));
    let error = Chip::open("x", &NRF52840, &folder.join("no/such.bin"), &power)
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("cannot open the flash file"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn in_real_time_half_the_effect_is_in_the_file_during_the_sleep() {
    let folder = folder("real-time");
    let path = folder.join("internal.bin");
    let watched = path.clone();
    let power = Power::new();
    let chip = Chip::open("internal", &NRF52840, &path, &power).unwrap();
    chip.set_contents(0, &[0; 4096]).unwrap();
    chip.set_time_factor(4.0);
    power.set_real_time(true);
    let watcher = std::thread::spawn(move || {
        // Polls for the state between the two halves; the erase sleeps 340 ms there.
        for _ in 0..2000 {
            let now = std::fs::read(&watched).unwrap();
            if now[..2048].iter().all(|b| *b == 0xFF) && now[2048..4096].iter().all(|b| *b == 0) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        false
    });
    let mut area = chip.area(0, 4096).unwrap();
    area.erase(0, 4096).unwrap();
    assert!(watcher.join().unwrap());
    assert!(area.contents().iter().all(|b| *b == 0xFF));
    std::fs::remove_dir_all(folder).unwrap();
}
