// SPDX-License-Identifier: Apache-2.0
//! Files that are packed updates, and files that are almost.
//!
//! Reading takes a flash that cannot be written: whatever is refused here is refused before anything is erased.

use super::*;
use bledfu_patch::record::{BASE, OUT_HASH, OUT_SHA, PACK};
use bledfu_patch::{Method, RamRange};
use bledfu_slot::tlv::SliceFlash;
use bledfu_slot::verify::Key;
use bledfu_slot::SoftCrypto;
use bledfu_testkit::{sha256, Image, Key as Signer};
use std::string::ToString;
use std::vec;
use std::vec::Vec;

extern crate std;

const LIMITS: Limits = Limits {
    largest: 0xE7000,
    table: 96,
};
const STREAM: u32 = 500;
const PACKING: Pack = Pack {
    method: Method::Delta,
    table: 3,
    out_size: 40_000,
    base_len: 39_000,
    base_addr: 0xC000,
    ram: RamRange {
        start: 0x2000_0000,
        len: 0x4_0000,
    },
};

type Entries = Vec<(u16, Vec<u8>)>;

/// The entries of a delta.
fn entries() -> Entries {
    vec![
        (PACK, PACKING.encode().to_vec()),
        (OUT_SHA, vec![1; 32]),
        (BASE, vec![2; 32]),
        (OUT_HASH, vec![3; 32]),
        (types::SECURITY_COUNTER, 7_u32.to_le_bytes().to_vec()),
    ]
}

/// A signed file with these protected entries and flags.
fn file(entries: &Entries, flags: u32) -> Vec<u8> {
    let mut image = Image::bare(32, STREAM, 1);
    image.body[16..20].copy_from_slice(&flags.to_le_bytes());
    let borrowed: Vec<(u16, &[u8])> = entries.iter().map(|(kind, value)| (*kind, &value[..])).collect();
    image.protect(&borrowed).sign(Signer(5)).bytes()
}

fn read(file: &[u8]) -> Result<Packed, std::string::String> {
    let read = Packed::read(&mut SliceFlash(file), 0, file.len() as u32, LIMITS);
    read.map_err(|error| error.to_string())
}

/// The delta with one entry replaced, or taken away.
fn with(kind: u16, value: Option<&[u8]>) -> Result<Packed, std::string::String> {
    let mut entries = entries();
    entries.retain_mut(|entry| match value {
        _ if entry.0 != kind => true,
        Some(value) => {
            entry.1 = value.to_vec();
            true
        }
        None => false,
    });
    read(&file(&entries, 0x10))
}

fn with_pack(change: impl Fn(&mut [u8])) -> Result<Packed, std::string::String> {
    let mut value = PACKING.encode();
    change(&mut value);
    with(PACK, Some(&value))
}

#[test]
fn a_delta_says_what_it_makes_of_what() {
    let packed = read(&file(&entries(), 0x10)).unwrap();
    assert_eq!(packed.pack, PACKING);
    assert_eq!((packed.stream_len, packed.security_counter), (STREAM, Some(7)));
    assert_eq!(
        (packed.out_sha, packed.base, packed.out_hash),
        ([1; 32], Some([2; 32]), [3; 32])
    );
    let running = Running {
        digest: [2; 32],
        hashed_len: 39_000,
        address: 0xC000,
    };
    assert_eq!(packed.check_base(&running), Ok(()));
    let refused = |running| packed.check_base(&running).unwrap_err();
    let other = Running {
        digest: [9; 32],
        ..running
    };
    assert_eq!(refused(other), BaseRefusal::OtherImage);
    let shorter = Running {
        hashed_len: 38_999,
        ..running
    };
    assert_eq!(refused(shorter), BaseRefusal::OtherImage);
    let elsewhere = Running {
        address: 0xD000,
        ..running
    };
    assert_eq!(refused(elsewhere), BaseRefusal::OtherAddress(0xC000));
    let done = Running {
        digest: [3; 32],
        ..running
    };
    assert_eq!(refused(done), BaseRefusal::Runs);
}

#[test]
fn other_flags_are_refused() {
    // small-updates case 19
    for bit in (0..32).filter(|bit| *bit != 4) {
        let sentence = read(&file(&entries(), 0x10 | 1 << bit)).unwrap_err();
        assert!(sentence.starts_with("the flags are "), "{sentence}");
    }
}

#[test]
fn an_entry_pack_that_is_not_of_this_format_is_refused() {
    // small-updates case 20
    let sentence = "the entry PACK does not have 24 bytes";
    assert_eq!(with(PACK, Some(&PACKING.encode()[..23])).unwrap_err(), sentence);
    assert_eq!(
        with(PACK, Some(&[&PACKING.encode()[..], &[0]].concat())).unwrap_err(),
        sentence
    );
    assert_eq!(
        with_pack(|value| value[0] = 2).unwrap_err(),
        "the packed update has format 2, 1 is known"
    );
    for method in [0, 3] {
        let refused = with_pack(|value| value[1] = method).unwrap_err();
        assert!(refused.contains("method"), "{refused}");
    }
    for table in [0, 4, 255] {
        let refused = with_pack(|value| value[2] = table).unwrap_err();
        assert!(refused.contains("table"), "{refused}");
    }
    let refused = with_pack(|value| value[3] = 1).unwrap_err();
    assert_eq!(refused, "a byte of the entry PACK that must be zero is not");
}

#[test]
fn the_entry_of_the_base_is_there_once_and_only_in_a_delta() {
    // small-updates case 21
    assert_eq!(
        with(BASE, None).unwrap_err(),
        "the packed update has no entry 0xbfa2"
    );
    assert_eq!(
        with(BASE, Some(&[2; 31])).unwrap_err(),
        "the entry 0xbfa2 of the packed update has a wrong length"
    );
    let mut twice = entries();
    twice.push((BASE, vec![2; 32]));
    assert_eq!(
        read(&file(&twice, 0x10)).unwrap_err(),
        "the packed update has an entry 0xbfa2 too many"
    );
    let mut full = PACKING;
    (full.method, full.base_len) = (Method::Full, 0);
    assert_eq!(
        with(PACK, Some(&full.encode())).unwrap_err(),
        "the packed update has an entry 0xbfa2 too many"
    );
    for missing in [PACK, OUT_SHA, OUT_HASH] {
        assert!(
            with(missing, None).unwrap_err().contains("has no entry"),
            "{missing:x}"
        );
    }
}

#[test]
fn unknown_entries_are_of_a_later_format() {
    // small-updates case 22
    let mut later = entries();
    later.push((0xBFA4, vec![0; 4]));
    assert_eq!(
        read(&file(&later, 0x10)).unwrap_err(),
        "the packed update has an entry 0xbfa4 too many"
    );
}

#[test]
fn the_size_of_the_image_has_bounds() {
    // small-updates case 23
    let size = |size: u32| with_pack(|value| value[4..8].copy_from_slice(&size.to_le_bytes()));
    assert!(size(LIMITS.largest).is_ok() && size(33).is_ok());
    for wrong in [0, 32, LIMITS.largest + 1, u32::MAX] {
        assert!(
            size(wrong).unwrap_err().contains("which no image here can have"),
            "{wrong}"
        );
    }
}

#[test]
fn unprotected_entries_are_not_believed() {
    // small-updates case 24
    let mut image = Image::bare(32, STREAM, 1);
    image.body[16] = 0x10;
    image = image.sign(Signer(5));
    for (kind, value) in entries() {
        image.entries.push((kind, value));
    }
    let file = image.bytes();
    assert_eq!(
        read(&file).unwrap_err(),
        "the packed update has an entry 0xbfa0 too many"
    );
}

#[test]
fn only_the_image_key_counts() {
    // small-updates case 25
    let file = file(&entries(), 0x10);
    let hashed = ImageHeader::parse(&file).unwrap().hashed_size().unwrap() as usize;
    let verify = |signer: Signer, digest: Digest| {
        let keys = [Key::from_bytes(&signer.public()).unwrap()];
        let policy = ImagePolicy {
            keys: &keys,
            trusted_digests: &[],
            unsigned: false,
            address: None,
        };
        let len = file.len() as u32;
        let checked = Packed::verify(&mut SliceFlash(&file), 0, len, &policy, &SoftCrypto, &digest);
        checked.map(|info| info.total_size == len)
    };
    let digest = sha256(&file[..hashed]);
    assert_eq!(verify(Signer(5), digest), Ok(true));
    assert_eq!(
        verify(Signer(6), digest),
        Err(PackedError::Image(VerifyError::NotSigned))
    );
    assert_eq!(
        verify(Signer(5), [0; 32]),
        Err(PackedError::Image(VerifyError::HashMismatch))
    );
}

#[test]
fn what_is_to_be_started_is_no_packed_update() {
    // small-updates case 26
    let packed = file(&entries(), 0x10);
    let mut plain = Image::bare(32, STREAM, 1);
    plain.body[32..64].copy_from_slice(&packed[..32]);
    let plain = plain.sign(Signer(5)).bytes();
    assert!(!Header::is_marked(plain.first_chunk().unwrap()));
    assert_eq!(
        read(&plain).unwrap_err(),
        "the flags are 0x0; a packed update has 0x10 and no other"
    );
    let mut other = Image::bare(32, STREAM, 1);
    other.body[16] = 0x10;
    let other = other.sign(Signer(5)).bytes();
    assert_eq!(read(&other).unwrap_err(), "the packed update has no entry 0xbfa0");
}

#[test]
fn the_file_ends_with_its_entries() {
    let mut long = file(&entries(), 0x10);
    long.push(0);
    assert_eq!(
        read(&long).unwrap_err(),
        "the sizes in the header do not fit the size of the file"
    );
    for len in 0..long.len() - 1 {
        let read = Packed::read(&mut SliceFlash(&long), 0, len as u32, LIMITS);
        assert!(read.is_err(), "the first {len} bytes");
    }
}
