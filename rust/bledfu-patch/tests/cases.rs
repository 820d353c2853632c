// SPDX-License-Identifier: Apache-2.0
//! The numbered cases of doc/conformance/small-updates.md that are about the format, the packer and the decoder.

mod common;

use bledfu_patch::decode::MOST_PAST_END;
use bledfu_patch::pack::{expand, pack, Options};
use bledfu_patch::{DecodeError, Decoder, Method, Pack, PackError, RamRange};
use bledfu_testkit::program::RAM;
use bledfu_testkit::{Program, Random};
use common::{Checked, ReadError};

/// Where the programs here run.
const SLOT: u32 = 0xC200;

fn options() -> Options {
    Options {
        base_addr: SLOT,
        ram: RamRange {
            start: RAM.0,
            len: RAM.1,
        },
        ..Options::default()
    }
}

fn no_progress(_: bledfu_patch::pack::Progress) {}

/// Packs and expands, by both ways of expanding; returns the length of the stream.
fn round_trip(base: &[u8], image: &[u8], options: &Options) -> usize {
    let packed = pack(base, image, options, &mut no_progress).unwrap();
    let expanded = expand(base, &packed.stream, &packed.pack).unwrap();
    assert!(expanded == image, "expand() gives another image");
    for page in [1, 3, 256] {
        let expanded = Checked::new(base, &packed.stream)
            .expand(&packed.pack, page)
            .unwrap();
        assert!(expanded == image, "pages of {page} bytes give another image");
    }
    packed.stream.len()
}

/// Two releases of a program of some 110 KB.
fn releases() -> (Vec<u8>, Vec<u8>) {
    let old = Program::new(7, 1_000);
    let mut new = old.clone();
    for number in 0..10 {
        new.add_function(90 * number + 5, number as u64);
        new.grow(95 * number + 40, 2 + number);
    }
    new.change_constant();
    (old.link(SLOT), new.link(SLOT))
}

/// One function inserted into a program of some 220 KB.
fn insertion() -> (Vec<u8>, Vec<u8>) {
    let old = Program::new(3, 2_000);
    let mut new = old.clone();
    new.add_function(600, 1);
    (old.link(SLOT), new.link(SLOT))
}

#[test]
fn an_image_comes_out_as_it_went_in() {
    // small-updates case 1
    let (old, new) = releases();
    round_trip(&old, &new, &options());
    round_trip(&new, &old, &options());
    let equal = round_trip(&old, &old, &options());
    assert!(equal <= 8, "equal files: {equal} bytes");
    round_trip(&old, &Program::new(8, 300).link(SLOT), &options());
}

#[test]
fn without_a_base_none_is_read() {
    // small-updates case 2
    let image = Program::new(7, 500).link(SLOT);
    let packed = pack(&[], &image, &options(), &mut no_progress).unwrap();
    assert_eq!(packed.pack.method, Method::Full);
    let mut source = Checked::new(&[], &packed.stream);
    assert!(source.expand(&packed.pack, 256).unwrap() == image);
    assert_eq!(source.base_reads, 0);
    assert!(
        packed.stream.len() < image.len() * 8 / 10,
        "{} of {}",
        packed.stream.len(),
        image.len()
    );
}

#[test]
fn small_odd_and_large_images_come_out() {
    // small-updates case 3: the largest image of a slot of 950,272 bytes, swap using offset.
    let mut random = Random::new(3);
    let base: Vec<u8> = (0..1_000).map(|_| random.byte()).collect();
    for len in [33, 34, 35, 1_001, 4_097] {
        let image: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        round_trip(&base, &image, &options());
        round_trip(&[], &image, &options());
        let near: Vec<u8> = base.iter().cycle().take(len).copied().collect();
        round_trip(&base, &near, &options());
    }
    let mut large = Program::new(5, 7_000).link(SLOT);
    large.resize(941_000, 0xFF);
    let packed = pack(&large[..900_000], &large, &options(), &mut no_progress).unwrap();
    assert!(expand(&large[..900_000], &packed.stream, &packed.pack).as_ref() == Ok(&large));
    assert!(packed.stream.len() < 4_000, "{}", packed.stream.len());
}

#[test]
fn a_stream_that_is_cut_gives_an_error_or_another_image() {
    // small-updates case 4
    let old = Program::new(7, 60);
    let mut new = old.clone();
    new.add_function(20, 1);
    new.grow(40, 3);
    let (old, new) = (old.link(SLOT), new.link(SLOT));
    for base in [&old[..], &[]] {
        let packed = pack(base, &new, &options(), &mut no_progress).unwrap();
        let mut same = 0;
        for len in 0..packed.stream.len() {
            let cut = Checked::new(base, &packed.stream[..len]).expand(&packed.pack, 256);
            same += usize::from(cut.is_ok_and(|image| image == new));
        }
        // Zeros that the packer has left in the stream; they are few.
        assert!(
            same <= MOST_PAST_END as usize,
            "{same} shorter streams give the same image"
        );
    }
}

#[test]
fn random_streams_end_within_the_bound_of_work() {
    // small-updates case 5: `Checked` fails the test above the bound.
    let base = Program::new(7, 60).link(SLOT);
    let mut random = Random::new(5);
    for seed in 0..10_000_usize {
        let stream: Vec<u8> = (0..random.below(400)).map(|_| random.byte()).collect();
        let pack = Pack {
            method: Method::Delta,
            table: 3,
            out_size: 33 + random.below(20_000) as u32,
            base_len: (33 + random.below(base.len() - 33)) as u32,
            base_addr: SLOT,
            ram: RamRange {
                start: RAM.0,
                len: RAM.1,
            },
        };
        let result = Checked::new(&base[..pack.base_len as usize], &stream).expand(&pack, 1 + seed % 300);
        if let Ok(image) = result {
            assert_eq!(image.len(), pack.out_size as usize, "seed {seed}");
        }
    }
}

#[test]
fn probabilities_at_their_extremes_decode_right() {
    // small-updates case 6: equal bits drive a probability to its end, where a range may lack two bytes at once.
    let mut image = vec![0x55; 33];
    let mut random = Random::new(9);
    for _ in 0..300 {
        // Few changes far apart, and runs between them.
        let byte = random.byte();
        image.extend(core::iter::repeat_n(byte, 1 + random.below(2_000)));
    }
    round_trip(&[], &image, &options());
    round_trip(&[0; 10_000], &image, &options());
    let mut counted: Vec<u8> = vec![0xFF; 10_000];
    counted.extend([0; 10_000]);
    counted.extend((0..2_000).map(|_| random.byte()));
    counted.extend([0xFF; 10_000]);
    round_trip(&[], &counted, &options());
}

#[test]
fn branches_and_pointers_at_the_end_of_the_base_are_not_read_beyond_it() {
    // small-updates case 7: `Checked` fails the test when a read goes beyond.
    let filler = Program::new(7, 20).link(SLOT);
    for tail in 0..4 {
        let mut base = filler[..filler.len() - 8].to_vec();
        base.extend([0xFF, 0xF7, 0xFE, 0xFF]); // bl to itself
        base.extend(&[0; 4][..tail]);
        let mut image = vec![0x20; 64];
        image.extend(&base);
        image.extend([1, 2, 3, 4]);
        round_trip(&base, &image, &options());
        // And half of a branch.
        round_trip(&base[..base.len() - 2 - tail], &image, &options());
    }
    let mut base = filler.clone();
    base.extend((SLOT + 0x101).to_le_bytes());
    let mut image = vec![0x20; 64];
    image.extend(&base);
    round_trip(&base, &image, &options());
    round_trip(&base[..base.len() - 1], &image, &options());
}

#[test]
fn a_jump_to_the_last_byte_repeats_it() {
    // small-updates case 8
    let mut image: Vec<u8> = (0..33).collect();
    image.extend([0xA7; 5_000]);
    let packed = pack(&[], &image, &options(), &mut no_progress).unwrap();
    assert_eq!(
        (packed.counts.jumps, packed.counts.runs),
        (1, 1),
        "{:?}",
        packed.counts
    );
    assert!(
        Checked::new(&[], &packed.stream)
            .expand(&packed.pack, 256)
            .unwrap()
            == image
    );
}

#[test]
fn a_full_table_keeps_packer_and_decoder_alike() {
    // small-updates case 11: more parts have moved than the table holds; the drops themselves are tested beside the table.
    let old = Program::new(7, 1_500);
    let mut new = old.clone();
    for number in 0..700 {
        new.grow(2 * number, 1 + number % 5);
    }
    let (old, new) = (old.link(SLOT), new.link(SLOT));
    let sizes = [1, 2, 3, 8].map(|table| round_trip(&old, &new, &Options { table, ..options() }));
    assert!(
        sizes.is_sorted_by(|small, large| small >= large),
        "a larger table never costs: {sizes:?}"
    );
}

#[test]
fn a_displacement_that_a_branch_cannot_hold_is_sent_as_bytes() {
    // small-updates case 12: branches become other words, and their targets move beyond what 25 bits hold.
    let mut random = Random::new(12);
    let mut base = Program::new(7, 200).link(SLOT);
    let mut image = base.clone();
    for _ in 0..500 {
        let at = 2 * random.below(base.len() / 2 - 2);
        let branch = [
            random.byte(),
            0xF0 | random.byte() & 7,
            random.byte(),
            0xD0 | random.byte() & 0x2F,
        ];
        base[at..at + 4].copy_from_slice(&branch);
        let other = [random.byte(), random.byte(), random.byte(), random.byte()];
        image[at..at + 4].copy_from_slice(&other);
        let pointer = 4 * random.below(base.len() / 4);
        let address = SLOT + random.below(base.len()) as u32;
        base[pointer..pointer + 4].copy_from_slice(&address.to_le_bytes());
        image[pointer..pointer + 4].copy_from_slice(&(random.next() as u32).to_le_bytes());
    }
    round_trip(&base, &image, &options());
    round_trip(&image, &base, &options());
}

#[test]
fn any_address_of_the_slot_can_be_packed() {
    // small-updates case 13: overflow checks are on.
    let (old, new) = (Program::new(7, 100), {
        let mut new = Program::new(7, 100);
        new.add_function(20, 1);
        new
    });
    for base_addr in [0, 1, 0xFFFF_0000, 0xFFFF_FFFF, 0x8000_0000] {
        let ram = RamRange {
            start: 0xFFFF_F000,
            len: u32::MAX,
        };
        let options = Options {
            base_addr,
            ram,
            ..options()
        };
        round_trip(&old.link(base_addr & !3), &new.link(base_addr & !3), &options);
    }
}

#[test]
fn a_large_change_is_still_smaller_than_no_base() {
    // small-updates case 14
    let old = Program::new(7, 1_000);
    let mut new = Program::new(7, 600);
    for number in 0..200 {
        new.add_function(3 * number, 1_000 + number as u64);
    }
    let (old, new) = (old.link(SLOT), new.link(SLOT));
    let delta = pack(&old, &new, &options(), &mut no_progress).unwrap();
    let full = pack(&[], &new, &options(), &mut no_progress).unwrap();
    assert!(
        delta.stream.len() < full.stream.len(),
        "{} and {}",
        delta.stream.len(),
        full.stream.len()
    );
}

#[test]
fn two_runs_of_the_packer_give_the_same_bytes() {
    // small-updates case 15
    let (old, new) = releases();
    let first = pack(&old, &new, &options(), &mut no_progress).unwrap();
    assert_eq!(pack(&old, &new, &options(), &mut no_progress).unwrap(), first);
    assert_eq!(first.pack.base_len as usize, old.len());
}

#[test]
fn a_release_and_an_insertion_stay_small() {
    // small-updates case 16, with programs of our own recipe; scripts/patch_sizes.py has real firmware.
    let (old, new) = releases();
    let stream = round_trip(&old, &new, &options());
    assert!(
        stream * 1_000 <= new.len() * 26,
        "a release: {stream} of {} bytes",
        new.len()
    );
    let (old, new) = insertion();
    let stream = round_trip(&old, &new, &options());
    assert!(
        stream * 1_000 <= new.len() * 2,
        "an insertion: {stream} of {} bytes",
        new.len()
    );
}

#[test]
fn progress_goes_up_to_its_total() {
    let (old, new) = insertion();
    let mut last = 0;
    let mut at_end = false;
    pack(&old, &new, &options(), &mut |progress| {
        assert!(progress.done >= last && progress.done <= progress.total);
        last = progress.done;
        at_end = progress.done == progress.total;
    })
    .unwrap();
    assert!(at_end);
}

#[test]
fn sizes_and_options_without_meaning_are_refused() {
    let image = [1; 100];
    let refused = |base: &[u8], image: &[u8], table| {
        let options = Options { table, ..options() };
        pack(base, image, &options, &mut no_progress).unwrap_err()
    };
    assert_eq!(refused(&[], &image[..32], 3), PackError::Size(32));
    assert_eq!(refused(&[], &image, 0), PackError::Table(0));
    assert_eq!(refused(&[], &image, 9), PackError::Table(9));
    assert_eq!(refused(&image[..20], &image, 3), PackError::Base);
    let large = vec![0; bledfu_patch::pack::LARGEST + 1];
    assert_eq!(refused(&[], &large, 3), PackError::Size(large.len() as u32));
}

#[test]
fn a_decoder_is_used_again_after_an_error_and_after_the_end() {
    let (old, new) = insertion();
    let packed = pack(&old, &new, &options(), &mut no_progress).unwrap();
    let mut decoder = Decoder::<96>::new();
    let mut page = [0; 64];
    let mut source = Checked::new(&old, &packed.stream);
    assert_eq!(decoder.fill(&mut source, &mut page), Err(DecodeError::NotStarted));
    for _ in 0..2 {
        // A read that fails ends it, and says why.
        let mut source = Checked::new(&old, &packed.stream);
        source.fails_after = 20;
        decoder.start(&packed.pack, packed.stream.len() as u32).unwrap();
        let error = loop {
            match decoder.fill(&mut source, &mut page) {
                Ok(filled) => source.image.extend_from_slice(&page[..filled]),
                Err(error) => break error,
            }
        };
        assert_eq!(error, DecodeError::Source(ReadError));
        assert_eq!(decoder.fill(&mut source, &mut page), Err(DecodeError::NotStarted));
        assert!(!decoder.is_complete());

        let mut source = Checked::new(&old, &packed.stream);
        decoder.start(&packed.pack, packed.stream.len() as u32).unwrap();
        while !decoder.is_complete() {
            assert_eq!(decoder.given() as usize, source.image.len());
            let filled = decoder.fill(&mut source, &mut page).unwrap();
            source.image.extend_from_slice(&page[..filled]);
        }
        assert!(source.image == new);
        assert_eq!(decoder.fill(&mut source, &mut page), Ok(0));
    }
    // A table that is larger than the decoder's.
    let large = pack(
        &old,
        &new,
        &Options {
            table: 4,
            ..options()
        },
        &mut no_progress,
    )
    .unwrap();
    assert_eq!(decoder.start(&large.pack, 100), Err(PackError::Table(4)));
}
