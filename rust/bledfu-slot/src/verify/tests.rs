// SPDX-License-Identifier: Apache-2.0
use embedded_storage::nor_flash::NorFlashErrorKind;

use super::*;
use crate::tlv::{SliceFlash, TlvError};
use bledfu_testkit::{der_integer as der, der_signature, sha256, Image, Key, Random};
use std::vec::Vec;

const KEY: Key = Key(1);
const OTHER: Key = Key(2);
const STRANGER: Key = Key(3);
const SLOT: u32 = 0x10000;
const LIMIT: u32 = 0xE000;

fn check_within(bytes: &[u8], limit: u32) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    let mut slot = std::vec![0xFF; SLOT as usize];
    slot[..bytes.len()].copy_from_slice(bytes);
    let keys = [super::Key::new(KEY.public()), super::Key::new(OTHER.public())];
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    verify_image(&mut SliceFlash(&slot), 0, SLOT, limit, &policy, &SoftCrypto)
}

fn check(bytes: &[u8]) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    check_within(bytes, LIMIT)
}

fn refused(bytes: &[u8]) -> VerifyError<NorFlashErrorKind> {
    check(bytes).expect_err("must be refused")
}

fn image() -> Image {
    Image::bare(0x200, 3000, 1).protect(&[(0x50, &7u32.to_le_bytes())])
}

fn good() -> Vec<u8> {
    image().sign(KEY).bytes()
}

/// `good()` with one byte replaced.
fn patched(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = good();
    assert_ne!(bytes[at], byte);
    bytes[at] = byte;
    bytes
}

fn with_entries(change: impl FnOnce(&mut Vec<(u16, Vec<u8>)>)) -> Vec<u8> {
    let mut image = image().sign(KEY);
    change(&mut image.entries);
    image.bytes()
}

/// Where the unprotected area of `good()` starts.
const AREA: usize = 0x200 + 3000 + 12;

#[test]
fn accepts_what_imgtool_signs() {
    let bytes = good();
    let info = check(&bytes).unwrap();
    assert_eq!(info.total_size as usize, bytes.len());
    assert_eq!(info.digest, image().digest());
    assert!(check(&Image::bare(0x20, 1, 1).sign(OTHER).bytes()).is_ok());
}

#[test]
fn the_worked_example_has_its_tlvs_where_mcuboot_says() {
    // imgtool sign --version 1.2.3+4 -s 7 --header-size 0x200, payload 00..3f; there the signature has 71 bytes.
    let image = (0..)
        .map(|n| {
            let mut image = Image::bare(0x200, 64, n);
            for (i, byte) in image.body[0x200..].iter_mut().enumerate() {
                *byte = i as u8;
            }
            image.body[28] = 0;
            image
                .protect(&[(0x50, &7u32.to_le_bytes())])
                .sign(Key(n as u8 + 1))
        })
        .find(|image| image.entries[2].1.len() == 71)
        .unwrap();
    let bytes = image.bytes();
    assert_eq!(bytes.len(), 739);
    assert_eq!(
        bytes[0x240..0x250],
        [0x08, 0x69, 12, 0, 0x50, 0, 4, 0, 7, 0, 0, 0, 0x07, 0x69, 0x97, 0]
    );
    let mut flash = SliceFlash(&bytes);
    let header = read_header(&mut flash, 0).unwrap();
    let mut tlvs = TlvWalker::new(&mut flash, 0, &header, 0x10000).unwrap();
    assert_eq!(tlvs.total_size(), 739);
    let mut found = Vec::new();
    while let Some(tlv) = tlvs.next(&mut flash).unwrap() {
        found.push((tlv.kind, tlv.length, tlv.offset, tlv.protected));
    }
    assert_eq!(
        found,
        [
            (0x50, 4, 0x248, true),
            (0x10, 32, 0x254, false),
            (0x01, 32, 0x278, false),
            (0x22, 71, 0x29C, false)
        ]
    );
    assert_eq!(image_size(&mut flash, 0, 0x10000), Ok(739));
    assert_eq!(bytes[0x254..0x274], sha256(&bytes[..0x24C]));
}

#[test]
fn key_hashes_are_of_the_whole_public_key_info() {
    assert_eq!(super::Key::new(KEY.public()).key_hash(&SoftCrypto), KEY.hash());
    assert_eq!(
        super::Key::from_bytes(&KEY.public()),
        Some(super::Key::new(KEY.public()))
    );
    assert_eq!(super::Key::from_bytes(&[0; 65]), None);
}

#[test]
fn damaged_headers_are_refused() {
    assert_eq!(
        refused(&patched(0, 0x3C)),
        VerifyError::Header(HeaderError::BadMagic)
    ); // mcuboot case 3
    assert_eq!(refused(&[]), VerifyError::Header(HeaderError::Erased)); // mcuboot case 4
    assert_eq!(
        refused(&patched(3, 0x97)),
        VerifyError::Header(HeaderError::BadMagic)
    ); // mcuboot case 5
    let mut bytes = good();
    bytes[12..16].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
    assert_eq!(refused(&bytes), VerifyError::Header(HeaderError::Overflow)); // mcuboot case 6
    bytes[12..16].copy_from_slice(&0xFFFF_0000u32.to_le_bytes());
    bytes[8..10].copy_from_slice(&[0xFF; 2]);
    assert!(check(&bytes).is_err()); // mcuboot case 7
    for (sum, reason) in [
        (SLOT, VerifyError::Header(HeaderError::TooLarge)),
        (SLOT - 1, VerifyError::Tlv(TlvError::AreaTooLarge)),
    ] {
        let mut bytes = good();
        bytes[12..16].copy_from_slice(&(sum - 0x200 - 12).to_le_bytes());
        assert_eq!(refused(&bytes), reason); // mcuboot case 8
    }
    let mut bytes = good();
    bytes[12..16].fill(0);
    assert!(check(&bytes).is_err()); // mcuboot case 9
    assert!(check(&Image::bare(0x200, 0, 1).sign(KEY).bytes()).is_ok());
    for size in [0u16, 31] {
        let mut bytes = good();
        bytes[8..10].copy_from_slice(&size.to_le_bytes());
        assert_eq!(refused(&bytes), VerifyError::Header(HeaderError::HeaderTooSmall));
        // mcuboot case 10
    }
}

#[test]
fn protected_areas_must_be_as_the_header_says() {
    let reason = VerifyError::Tlv(TlvError::ProtectedArea);
    let mut bytes = Image::bare(0x200, 3000, 1).sign(KEY).bytes();
    bytes[10] = 12;
    assert_eq!(refused(&bytes), reason); // mcuboot case 11
    assert_eq!(refused(&patched(10, 0)), VerifyError::Tlv(TlvError::InfoMagic)); // mcuboot case 12
    assert_eq!(refused(&patched(10, 13)), reason); // mcuboot case 13
    assert_eq!(refused(&patched(0x200 + 3000 + 2, 8)), reason);
    let mut bytes = good();
    bytes[10] = 3;
    bytes[0x200 + 3000 + 2] = 3;
    assert_eq!(refused(&bytes), reason);
}

#[test]
fn flags_decide_as_in_mcuboot() {
    let of = |flags| check(&image().flags(flags).sign(KEY).bytes()).err();
    for flags in [0x04, 0x08, 0x0C] {
        assert_eq!(of(flags), Some(VerifyError::Header(HeaderError::Encrypted)));
        // mcuboot cases 14, 15
    }
    assert_eq!(of(0x200), Some(VerifyError::Header(HeaderError::Compressed))); // mcuboot case 16
    assert_eq!(of(0x10), Some(VerifyError::Header(HeaderError::NotBootable))); // mcuboot case 17
    assert_eq!(of(0x4000_0001), None); // mcuboot case 18
}

#[test]
fn every_hashed_byte_counts() {
    // Payload, header filler, version, protected TLV: mcuboot cases 19-22.
    for at in [0x200, 0x200 + 2999, 0x20, 0x1FF, 20, 27, 28, 0x200 + 3000 + 8] {
        let flipped = good()[at] ^ 0x10;
        assert_eq!(
            refused(&patched(at, flipped)),
            VerifyError::HashMismatch,
            "byte {at:#x}"
        );
    }
}

#[test]
fn unprotected_areas_must_be_well_formed() {
    let total = u16::from_le_bytes([good()[AREA + 2], good()[AREA + 3]]);
    let with_total = |total: u16| {
        let mut bytes = good();
        bytes[AREA + 2..AREA + 4].copy_from_slice(&total.to_le_bytes());
        refused(&bytes)
    };
    assert_eq!(
        refused(&patched(AREA, 0x08)),
        VerifyError::Tlv(TlvError::InfoMagic)
    ); // mcuboot case 23
    assert_eq!(with_total(0), VerifyError::Tlv(TlvError::AreaTooSmall)); // mcuboot case 24
    assert_eq!(with_total(4), VerifyError::NoHash); // mcuboot case 25
    assert_eq!(with_total(0xFFFF), VerifyError::Tlv(TlvError::AreaTooLarge)); // mcuboot case 26
    for wrong in [total - 1, total + 1, total + 4] {
        assert_eq!(with_total(wrong), VerifyError::Tlv(TlvError::EntryOverrun));
        // mcuboot cases 27, 47
    }
}

#[test]
fn the_hash_must_be_there_whole_and_right() {
    let resized = |length| with_entries(|entries| entries[0].1.resize(length, 0));
    assert_eq!(refused(&resized(31)), VerifyError::HashLength); // mcuboot case 28
    assert_eq!(refused(&resized(33)), VerifyError::HashLength);
    assert_eq!(
        refused(&with_entries(|entries| drop(entries.remove(0)))),
        VerifyError::NoHash
    ); // mcuboot case 29
    assert_eq!(
        refused(&with_entries(|entries| entries[0].0 = 0x11)),
        VerifyError::NoHash
    ); // mcuboot case 30
    let two = with_entries(|entries| entries.push((0x10, std::vec![0; 32])));
    assert_eq!(refused(&two), VerifyError::HashMismatch); // mcuboot case 31
    assert!(check(&with_entries(|entries| entries.rotate_left(1))).is_ok());
    // mcuboot case 44
}

#[test]
fn only_a_signature_after_the_hash_of_a_known_key_counts() {
    assert_eq!(refused(&image().sign(STRANGER).bytes()), VerifyError::NotSigned); // mcuboot case 32
    let mut bytes = good();
    let key_hash = AREA + 4 + 36;
    bytes[key_hash + 2..key_hash + 4].fill(0xFF);
    assert_eq!(refused(&bytes), VerifyError::Tlv(TlvError::EntryOverrun)); // mcuboot case 33
    for length in [0, 31] {
        let short = with_entries(|entries| entries[1].1.truncate(length));
        assert_eq!(refused(&short), VerifyError::NotSigned); // mcuboot case 34, stricter than MCUboot
    }
    assert_eq!(
        refused(&with_entries(|entries| drop(entries.pop()))),
        VerifyError::NotSigned
    ); // mcuboot case 35
    assert_eq!(
        refused(&with_entries(|entries| drop(entries.remove(1)))),
        VerifyError::NotSigned
    ); // mcuboot case 36
    assert_eq!(
        refused(&with_entries(|entries| entries.swap(1, 2))),
        VerifyError::NotSigned
    ); // mcuboot case 37
    assert_eq!(
        refused(&with_entries(|entries| entries[2].0 = 0x24)),
        VerifyError::NotSigned
    ); // mcuboot case 46
}

#[test]
fn damaged_signatures_are_refused() {
    let signature =
        |change: &dyn Fn(&mut Vec<u8>)| check(&with_entries(|entries| change(&mut entries[2].1))).map(|_| ());
    let bad = Err(VerifyError::BadSignature);
    assert_eq!(signature(&|s| s[20] ^= 1), bad); // mcuboot case 38
    assert_eq!(signature(&|s| s.truncate(s.len() - 1)), bad); // mcuboot case 39
    assert_eq!(signature(&|s| s.extend([0, 0])), Ok(())); // mcuboot case 40
    assert_eq!(signature(&|s| s.extend([0, 0, 0])), bad);
    assert_eq!(signature(&|s| s.extend([0, 1])), bad);
    assert_eq!(signature(&|s| s.extend([0; 60])), bad);
    assert_eq!(signature(&|s| s.clear()), bad);
}

#[test]
fn the_last_signature_of_a_known_key_decides() {
    let pairs = |list: &[(Key, bool)]| {
        let mut image = image();
        image.entries.push(image.hash_entry());
        for (key, valid) in list {
            let [hash, mut signature] = image.signature_entries(*key);
            if !valid {
                signature.1[12] ^= 4;
            }
            image.entries.extend([hash, signature]);
        }
        check(&image.bytes()).map(|_| ())
    };
    assert_eq!(pairs(&[(KEY, false), (KEY, true)]), Ok(())); // mcuboot case 41
    assert_eq!(
        pairs(&[(KEY, true), (OTHER, false)]),
        Err(VerifyError::BadSignature)
    ); // mcuboot case 42
    assert_eq!(pairs(&[(KEY, true), (STRANGER, true)]), Ok(())); // mcuboot case 43
    assert_eq!(pairs(&[(STRANGER, true), (OTHER, true)]), Ok(()));
}

#[test]
fn unknown_unprotected_tlvs_are_refused_and_protected_ones_are_not() {
    let extra = with_entries(|entries| entries.push((0xA0, std::vec![1, 2])));
    assert_eq!(refused(&extra), VerifyError::UnexpectedTlv(0xA0)); // mcuboot case 45, with the allow-list
    assert!(check(
        &Image::bare(0x200, 10, 1)
            .protect(&[(0xA0, &[1, 2])])
            .sign(KEY)
            .bytes()
    )
    .is_ok());
}

#[test]
fn a_protected_tlv_may_not_reach_into_the_unprotected_area() {
    let mut image = image();
    let at = image.body.len() - 8 + 2;
    image.body[at] = 8; // four bytes longer than the area
    assert_eq!(
        refused(&image.sign(KEY).bytes()),
        VerifyError::Tlv(TlvError::EntryOverrun)
    ); // mcuboot case 48
}

#[test]
fn signature_numbers_must_be_minimal_positive_and_in_range() {
    const ORDER: Digest = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
        0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let rs = KEY.sign(&image().digest());
    let (r, s) = (der(&rs[..32]), der(&rs[32..]));
    let with = |signature: Vec<u8>| check(&with_entries(|entries| entries[2].1 = signature)).map(|_| ());
    assert_eq!(with(der_signature(&r, &s)), Ok(()));
    let bad = Err(VerifyError::BadSignature);
    for number in [std::vec![2, 1, 0], der(&ORDER), std::vec![2, 0]] {
        assert_eq!(with(der_signature(&number, &s)), bad); // mcuboot case 49
        assert_eq!(with(der_signature(&r, &number)), bad);
    }
    let wide = [&[2u8, 33, 0][..], &[0x12; 32]].concat(); // a zero too many
    let negative = [&[2u8, 32][..], &[0x92; 32]].concat();
    let long = [&[2u8, 34, 0, 0x80][..], &[1; 32]].concat(); // 33 value bytes
    for number in [wide, negative, long] {
        assert_eq!(
            Signature::from_der(&der_signature(&number, &s)),
            Err(SignatureFormatError)
        );
    }
    assert_eq!(Signature::from_der(&[0x30, 0x84]), Err(SignatureFormatError));
    assert_eq!(Signature::from_der(&[]), Err(SignatureFormatError));
}

#[test]
fn parsing_a_signature_survives_any_bytes() {
    let mut random = Random::new(5);
    let good = KEY.sign_der(&[7; 32]);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.next() % 3 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.byte();
        }
        bytes.truncate(random.next() as usize % 80);
        let _ = Signature::from_der(&bytes);
    }
}

#[test]
fn verification_survives_any_bytes() {
    let mut random = Random::new(6);
    let clean = good();
    let heads: Vec<usize> = (0..32).chain(0x200 + 3000..clean.len()).collect();
    for _ in 0..300 {
        let mut bytes = clean.clone();
        for _ in 0..1 + random.next() % 4 {
            let at = heads[random.next() as usize % heads.len()];
            bytes[at] = random.byte();
        }
        if bytes != clean {
            // Only bytes that are not checked may differ.
            assert!(check(&bytes).is_err());
        }
    }
}

#[test]
fn an_image_may_be_as_large_as_the_limit_and_no_larger() {
    let bytes = Image::of_total(LIMIT, 1, KEY).bytes();
    assert!(check_within(&bytes, LIMIT).is_ok()); // mcuboot case 50
    assert_eq!(check_within(&bytes, LIMIT - 1).err(), Some(VerifyError::TooLarge));
}

#[test]
fn a_trusted_digest_needs_no_signature() {
    let mut image = image();
    image.entries.push(image.hash_entry());
    let bytes = image.bytes();
    let digest = [image.digest()];
    let verify = |trusted_digests: &[Digest]| {
        let policy = ImagePolicy {
            keys: &[],
            trusted_digests,
            unsigned: false,
            address: None,
        };
        verify_image(&mut SliceFlash(&bytes), 0, SLOT, LIMIT, &policy, &SoftCrypto).map(|_| ())
    };
    assert_eq!(verify(&digest), Ok(()));
    assert_eq!(verify(&[]), Err(VerifyError::NotSigned));
    assert_eq!(verify(&[[0; 32]]), Err(VerifyError::NotSigned));
}

#[test]
fn a_digest_computed_while_bytes_arrive_is_as_good_as_one_read_back() {
    let bytes = good();
    let keys = [super::Key::new(KEY.public())];
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    for step in [1, 7, 32, 100, 4096] {
        let mut stream = StreamDigest::new(SoftCrypto.sha256());
        for chunk in bytes.chunks(step) {
            let snapshot = stream.clone();
            stream.update(chunk);
            stream = snapshot; // dropped and sent again
            stream.update(chunk);
        }
        assert_eq!(stream.position() as usize, bytes.len());
        assert_eq!(stream.file_digest(), sha256(&bytes));
        let digest = stream.image_digest().unwrap();
        assert_eq!(digest, image().digest());
        let flash = &mut SliceFlash(&bytes);
        assert!(verify_image_with_digest(flash, 0, SLOT, LIMIT, &policy, &SoftCrypto, &digest).is_ok());
        let wrong = verify_image_with_digest(flash, 0, SLOT, LIMIT, &policy, &SoftCrypto, &[0; 32]);
        assert_eq!(wrong.err(), Some(VerifyError::HashMismatch));
    }
}

#[test]
fn a_stream_without_an_image_has_no_image_digest() {
    for bytes in [std::vec![0xFF; 100], std::vec![0; 31], good()[..600].to_vec()] {
        let mut stream = StreamDigest::new(SoftCrypto.sha256());
        stream.update(&bytes);
        assert_eq!(stream.image_digest(), None);
        assert_eq!(stream.file_digest(), sha256(&bytes));
    }
    // A header that claims to be smaller than it is.
    let mut bytes = good();
    bytes[8..16].fill(0);
    let mut stream = StreamDigest::new(SoftCrypto.sha256());
    stream.update(&bytes);
    assert_eq!(stream.image_digest(), None);
}

#[test]
fn init_packet_signatures_have_their_halves_reversed() {
    let mut halves = [0; 64];
    for (i, byte) in halves.iter_mut().enumerate() {
        *byte = i as u8;
    }
    let signature = Signature::from_le_halves(&halves);
    assert_eq!((signature.as_bytes()[0], signature.as_bytes()[31]), (31, 0));
    assert_eq!((signature.as_bytes()[32], signature.as_bytes()[63]), (63, 32));
}

#[test]
fn an_unreadable_slot_says_nothing_about_the_image() {
    let bytes = good();
    let policy = ImagePolicy {
        keys: &[],
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    let result = verify_image(
        &mut SliceFlash(&bytes[..2000]),
        0,
        SLOT,
        LIMIT,
        &policy,
        &SoftCrypto,
    );
    assert!(matches!(result, Err(VerifyError::Flash(_))));
}

#[test]
fn an_image_for_another_slot_is_refused_wherever_it_is_stored() {
    let mut image = image();
    image.body[0x204..0x208].copy_from_slice(&0x0100_0105u32.to_le_bytes());
    let bytes = image.sign(KEY).bytes();
    let keys = [super::Key::new(KEY.public())];
    let check = |start: usize, range: Option<AddressRange>| {
        let mut slot = std::vec![0xFF; SLOT as usize];
        slot[start..start + bytes.len()].copy_from_slice(&bytes);
        let policy = ImagePolicy {
            keys: &keys,
            address: range,
            ..ImagePolicy::default()
        };
        let (flash, at) = (&mut SliceFlash(&slot), start as u32);
        verify_image(flash, at, SLOT, LIMIT, &policy, &SoftCrypto).map(|_| ())
    };
    let range = |start| Some(AddressRange { start, size: SLOT });
    for start in [0, 4096] {
        assert_eq!(check(start, None), Ok(()));
        assert_eq!(check(start, range(0x0100_0000)), Ok(()));
        assert!(matches!(
            check(start, range(0xC000)),
            Err(VerifyError::Header(HeaderError::WrongAddress {
                reset_vector: 0x0100_0105,
                ..
            }))
        ));
    }
}

/// Cannot check signatures at the moment.
struct Busy;

impl Crypto for Busy {
    type Sha256 = SoftSha256;

    fn verify(&self, _: &super::Key, _: &Digest, _: &Signature) -> SignatureCheck {
        SignatureCheck::Unavailable
    }
}

#[test]
fn cryptography_that_is_not_available_says_nothing_about_the_image() {
    let bytes = good();
    let keys = [super::Key::new(KEY.public())];
    let policy = ImagePolicy {
        keys: &keys,
        ..ImagePolicy::default()
    };
    let flash = &mut SliceFlash(&bytes);
    let error = verify_image(flash, 0, SLOT, LIMIT, &policy, &Busy).unwrap_err();
    assert_eq!(error, VerifyError::Unavailable);
    assert!(!error.is_about_image());
    // What needs no signature check is still known.
    let mut damaged = good();
    damaged[0x300] ^= 1;
    let error = verify_image(&mut SliceFlash(&damaged), 0, SLOT, LIMIT, &policy, &Busy).unwrap_err();
    assert!(error == VerifyError::HashMismatch && error.is_about_image());
}

#[test]
fn a_signature_of_one_key_of_several_counts_and_a_key_that_cannot_be_tried_is_no_refusal() {
    /// The first byte of a key decides the result of its check.
    struct Listed;

    impl Crypto for Listed {
        type Sha256 = SoftSha256;

        fn verify(&self, key: &super::Key, _: &Digest, _: &Signature) -> SignatureCheck {
            let super::Key::P256(point) = key;
            match point[0] {
                0 => SignatureCheck::Good,
                1 => SignatureCheck::Bad,
                _ => SignatureCheck::Unavailable,
            }
        }
    }

    let signature = Signature::from_le_halves(&[1; 64]);
    let any = |found: &[u8]| {
        let keys: std::vec::Vec<_> = found.iter().map(|first| super::Key::new([*first; 64])).collect();
        Listed.verify_any(&keys, &[0; 32], &signature)
    };
    assert_eq!(any(&[]), SignatureCheck::Bad);
    assert_eq!(any(&[1, 1]), SignatureCheck::Bad);
    assert_eq!(any(&[1, 2, 1]), SignatureCheck::Unavailable);
    assert_eq!(any(&[2, 1, 0]), SignatureCheck::Good);
}

/// Counts the signatures it checks.
#[derive(Default)]
struct Counting(core::cell::Cell<u32>);

impl Crypto for Counting {
    type Sha256 = SoftSha256;

    fn verify(&self, key: &super::Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        self.0.set(self.0.get() + 1);
        SoftCrypto.verify(key, digest, signature)
    }
}

/// The number of signature checks that an image costs, and the result.
fn cost_of(image: &Image) -> (u32, Result<(), VerifyError<NorFlashErrorKind>>) {
    let bytes = image.bytes();
    let crypto = Counting::default();
    let keys = [super::Key::new(KEY.public()), super::Key::new(OTHER.public())];
    let policy = ImagePolicy {
        keys: &keys,
        ..ImagePolicy::default()
    };
    let size = 0x20000;
    let mut slot = std::vec![0xFF; size as usize];
    slot[..bytes.len()].copy_from_slice(&bytes);
    let result = verify_image(&mut SliceFlash(&slot), 0, size, size, &policy, &crypto).map(|_| ());
    (crypto.0.get(), result)
}

// mcuboot case 119, boot-trust case 56
#[test]
fn an_image_cannot_make_its_check_long() {
    let signed = |bad: usize| {
        let mut image = image();
        image.entries.push(image.hash_entry());
        let pair = image.signature_entries(KEY);
        let mut wrong = pair.clone();
        wrong[1].1[12] ^= 4;
        for _ in 0..bad {
            image.entries.extend(wrong.clone());
        }
        image.entries.extend(pair);
        image
    };
    // Each key may sign, and so may the last one after wrong ones, up to the limit.
    assert_eq!(cost_of(&signed(0)), (1, Ok(())));
    assert_eq!(cost_of(&signed(3)), (4, Ok(())));
    assert_eq!(cost_of(&signed(4)), (4, Err(VerifyError::TooManyTlvs)));
    // As many pairs as the size field of the area can hold: refused before the payload is read.
    assert_eq!(cost_of(&signed(580)), (0, Err(VerifyError::TooManyTlvs)));
    // Pairs of a short key hash and an empty signature are not signatures, but they still count as entries.
    let padded = |count: usize, entry: (u16, Vec<u8>)| {
        let mut image = image().sign(KEY);
        let end = image.entries.split_off(0);
        image.entries.extend(core::iter::repeat_n(entry, count));
        image.entries.extend(end);
        image
    };
    let empty = (types::KEY_HASH, Vec::new());
    // Three signed entries, and the security counter in the protected area.
    assert_eq!(cost_of(&padded(60, empty.clone())), (1, Ok(())));
    assert_eq!(
        cost_of(&padded(61, empty.clone())),
        (0, Err(VerifyError::TooManyTlvs))
    );
    assert_eq!(
        cost_of(&padded(16_000, empty)),
        (0, Err(VerifyError::TooManyTlvs))
    );
    // One byte more than the area may have.
    let signed_size = image().sign(KEY).bytes().len() - AREA;
    let filler = |size: usize| (types::PUBLIC_KEY, std::vec![0; size - signed_size - 4]);
    assert_eq!(cost_of(&padded(1, filler(2048))), (1, Ok(())));
    assert_eq!(
        cost_of(&padded(1, filler(2049))),
        (0, Err(VerifyError::TooManyTlvs))
    );
}

// mcuboot case 119, boot-trust case 56: entries that the digest covers are counted as well.
#[test]
fn protected_entries_count_as_well() {
    let with = |count: usize| {
        let entries: Vec<(u16, &[u8])> = core::iter::repeat_n((0xA0, &[][..]), count).collect();
        cost_of(&Image::bare(0x200, 10, 1).protect(&entries).sign(KEY))
    };
    assert_eq!(with(61), (1, Ok(())));
    assert_eq!(with(62).1, Err(VerifyError::TooManyTlvs));
    assert_eq!(with(16_000), (0, Err(VerifyError::TooManyTlvs)));
}

#[test]
fn a_verdict_differs_from_every_other_in_at_least_eight_bits() {
    let verdicts = [
        SignatureCheck::Good,
        SignatureCheck::Bad,
        SignatureCheck::Unavailable,
    ]
    .map(|verdict| verdict as u32);
    for (i, one) in verdicts.iter().enumerate() {
        assert!(one.count_ones() >= 8 && one.count_zeros() >= 8, "{one:#x}");
        for other in &verdicts[..i] {
            assert!((one ^ other).count_ones() >= 8, "{one:#x} {other:#x}");
        }
    }
}
