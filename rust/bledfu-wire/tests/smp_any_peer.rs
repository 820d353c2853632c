// SPDX-License-Identifier: Apache-2.0
//! SMP with peers that encode in any valid way, and with peers that send garbage.

use bledfu_wire::image_group::{self, ImageState, SlotInfo, Upload};
use bledfu_wire::os_group;
use bledfu_wire::smp::{
    self, decode, encode, encode_request, op, Code, Failure, Header, Request, Response, Version, HEADER_SIZE,
    IMAGE_GROUP, OS_GROUP,
};
use bledfu_wire::smp_answer::{Answer, AnswerError, ImageEntry, SlotEntry};
use bledfu_wire::smp_console;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// An item of CBOR and how it is encoded. The `usize` is the minimum length of a number in bytes.
#[derive(Clone, Debug)]
enum Item {
    Unsigned(u64, usize),
    Negative(u64, usize),
    Bytes(Vec<u8>, usize),
    Text(String, usize),
    BytesInPieces(Vec<Vec<u8>>),
    TextInPieces(Vec<String>),
    Array(Vec<Item>, Option<usize>),
    Map(Vec<(Item, Item)>, Option<usize>),
    Tagged(u64, Box<Item>),
    /// Simple values and floats: the bytes themselves.
    Simple(&'static [u8]),
}

fn head(major: u8, value: u64, least: usize, out: &mut Vec<u8>) {
    let needed = match value {
        0..=23 => 0,
        24..=0xFF => 1,
        0x100..=0xFFFF => 2,
        0x1_0000..=0xFFFF_FFFF => 4,
        _ => 8,
    };
    let bytes = value.to_be_bytes();
    let (info, length) = match needed.max(least) {
        0 => (value as u8, 0),
        1 => (24, 1),
        2 => (25, 2),
        3..=4 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend(&bytes[8 - length..]);
}

impl Item {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(value, least) => head(0, *value, *least, out),
            Self::Negative(value, least) => head(1, *value, *least, out),
            Self::Bytes(bytes, least) => {
                head(2, bytes.len() as u64, *least, out);
                out.extend(bytes);
            }
            Self::Text(text, least) => {
                head(3, text.len() as u64, *least, out);
                out.extend(text.as_bytes());
            }
            Self::BytesInPieces(pieces) => {
                out.push(0x5F);
                pieces
                    .iter()
                    .for_each(|piece| Self::Bytes(piece.clone(), 0).encode(out));
                out.push(0xFF);
            }
            Self::TextInPieces(pieces) => {
                out.push(0x7F);
                pieces
                    .iter()
                    .for_each(|piece| Self::Text(piece.clone(), 0).encode(out));
                out.push(0xFF);
            }
            Self::Array(items, definite) => {
                begin(4, items.len(), *definite, out);
                items.iter().for_each(|item| item.encode(out));
                end(*definite, out);
            }
            Self::Map(entries, definite) => {
                begin(5, entries.len(), *definite, out);
                for (key, value) in entries {
                    key.encode(out);
                    value.encode(out);
                }
                end(*definite, out);
            }
            Self::Tagged(tag, item) => {
                head(6, *tag, 0, out);
                item.encode(out);
            }
            Self::Simple(bytes) => out.extend(*bytes),
        }
    }
}

fn begin(major: u8, count: usize, definite: Option<usize>, out: &mut Vec<u8>) {
    match definite {
        Some(least) => head(major, count as u64, least, out),
        None => out.push(major << 5 | 31),
    }
}

fn end(definite: Option<usize>, out: &mut Vec<u8>) {
    if definite.is_none() {
        out.push(0xFF);
    }
}

/// Any item, with containers up to eight deep.
fn any_item() -> impl Strategy<Value = Item> {
    let least = 0..9_usize;
    let leaf = prop_oneof![
        (any::<u64>(), least.clone()).prop_map(|(value, least)| Item::Unsigned(value, least)),
        (any::<u64>(), least.clone()).prop_map(|(value, least)| Item::Negative(value, least)),
        (vec(any::<u8>(), 0..30), least.clone()).prop_map(|(bytes, least)| Item::Bytes(bytes, least)),
        (".{0,20}", least).prop_map(|(text, least)| Item::Text(text, least)),
        vec(vec(any::<u8>(), 0..10), 0..4).prop_map(Item::BytesInPieces),
        vec(".{0,10}", 0..4).prop_map(Item::TextInPieces),
        prop_oneof![
            Just(&[0xF4][..]),
            Just(&[0xF5][..]),
            Just(&[0xF6][..]),
            Just(&[0xF7][..]),
            Just(&[0xF8, 0xFF][..]),
            Just(&[0xF9, 0x3C, 0x00][..]),
            Just(&[0xFA, 0x7F, 0xC0, 0xFF, 0xFF][..]),
            Just(&[0xFB, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF][..]),
        ]
        .prop_map(Item::Simple),
    ];
    leaf.prop_recursive(8, 40, 6, |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..6), option::of(0..9_usize))
                .prop_map(|(items, definite)| Item::Array(items, definite)),
            (vec((inner.clone(), inner.clone()), 0..4), option::of(0..9_usize))
                .prop_map(|(entries, definite)| Item::Map(entries, definite)),
            (any::<u64>(), inner).prop_map(|(tag, item)| Item::Tagged(tag, Box::new(item))),
        ]
    })
}

/// A request, with the encoding choices that a peer has.
#[derive(Clone, Debug)]
struct Asked {
    version: u8,
    op: u8,
    group: u16,
    command: u8,
    /// Known keys and their values.
    known: Vec<(&'static str, Item)>,
    expected: Meant,
}

/// A [`Request`] with the data that it borrows.
#[derive(Clone, Debug)]
enum Meant {
    Echo(Option<String>),
    Reset(Option<bool>, Option<u32>),
    Info(Option<String>),
    BootloaderInfo(Option<String>),
    WriteState(Option<Vec<u8>>, Option<bool>),
    Upload {
        image: Option<u32>,
        offset: Option<u64>,
        length: Option<u64>,
        sha: Option<Vec<u8>>,
        upgrade: Option<bool>,
        data: Option<Vec<u8>>,
    },
    Erase(Option<u32>),
}

impl Meant {
    fn request(&self) -> Request<'_> {
        match self {
            Self::Echo(text) => Request::Os(os_group::Request::Echo(text.as_deref().unwrap_or(""))),
            Self::Reset(force, boot_mode) => Request::Os(os_group::Request::Reset {
                force: force.unwrap_or(false),
                boot_mode: *boot_mode,
            }),
            Self::Info(format) => Request::Os(os_group::Request::Info {
                format: format.as_deref().unwrap_or(""),
            }),
            Self::BootloaderInfo(query) => Request::Os(os_group::Request::BootloaderInfo {
                query: query.as_deref(),
            }),
            Self::WriteState(hash, confirm) => Request::Image(image_group::Request::WriteState {
                hash: hash.as_deref(),
                confirm: confirm.unwrap_or(false),
            }),
            Self::Upload {
                image,
                offset,
                length,
                sha,
                upgrade,
                data,
            } => Request::Image(image_group::Request::Upload(Upload {
                image: image.unwrap_or(0),
                offset: *offset,
                length: *length,
                sha: sha.as_deref(),
                upgrade: upgrade.unwrap_or(false),
                data: data.as_deref().unwrap_or(&[]),
            })),
            Self::Erase(slot) => Request::Image(image_group::Request::Erase { slot: *slot }),
        }
    }

    /// Operation, group, command and keys of a request; numbers have at least `least` bytes.
    fn said(&self, least: usize) -> (u8, u16, u8, Vec<(&'static str, Item)>) {
        let text = |text: &Option<String>| text.clone().map(|text| Item::Text(text, least));
        let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(|bytes| Item::Bytes(bytes, least));
        let number = |number: Option<u64>| number.map(|number| Item::Unsigned(number, least));
        let flag = |flag: Option<bool>| flag.map(|flag| Item::Simple(if flag { &[0xF5] } else { &[0xF4] }));
        let (op, group, command, entries) = match self {
            Self::Echo(d) => (op::WRITE, OS_GROUP, 0, vec![("d", text(d))]),
            Self::Reset(force, mode) => {
                let mode = number(mode.map(u64::from));
                (
                    op::WRITE,
                    OS_GROUP,
                    5,
                    vec![("force", flag(*force)), ("boot_mode", mode)],
                )
            }
            Self::Info(format) => (op::READ, OS_GROUP, 7, vec![("format", text(format))]),
            Self::BootloaderInfo(query) => (op::READ, OS_GROUP, 8, vec![("query", text(query))]),
            Self::WriteState(hash, confirm) => {
                let entries = vec![("hash", bytes(hash)), ("confirm", flag(*confirm))];
                (op::WRITE, IMAGE_GROUP, 0, entries)
            }
            Self::Upload {
                image,
                offset,
                length,
                sha,
                upgrade,
                data,
            } => {
                let entries = vec![
                    ("image", number(image.map(u64::from))),
                    ("off", number(*offset)),
                    ("len", number(*length)),
                    ("sha", bytes(sha)),
                    ("upgrade", flag(*upgrade)),
                    ("data", bytes(data)),
                ];
                (op::WRITE, IMAGE_GROUP, 1, entries)
            }
            Self::Erase(slot) => {
                let slot = number(slot.map(u64::from));
                (op::WRITE, IMAGE_GROUP, 5, vec![("slot", slot)])
            }
        };
        let said = entries.into_iter().filter_map(|(key, value)| Some((key, value?)));
        (op, group, command, said.collect())
    }
}

fn any_meant() -> impl Strategy<Value = Meant> {
    let text = || option::of(".{0,40}");
    let bytes = |longest: usize| option::of(vec(any::<u8>(), 0..longest));
    let small_or_large = || option::of(prop_oneof![0..2_000_000_u64, any::<u64>()]);
    prop_oneof![
        text().prop_map(Meant::Echo),
        (any::<Option<bool>>(), any::<Option<u32>>()).prop_map(|(force, mode)| Meant::Reset(force, mode)),
        text().prop_map(Meant::Info),
        text().prop_map(Meant::BootloaderInfo),
        (bytes(40), any::<Option<bool>>()).prop_map(|(hash, confirm)| Meant::WriteState(hash, confirm)),
        any::<Option<u32>>().prop_map(Meant::Erase),
        (
            any::<Option<u32>>(),
            small_or_large(),
            small_or_large(),
            bytes(40),
            any::<Option<bool>>(),
            bytes(600)
        )
            .prop_map(|(image, offset, length, sha, upgrade, data)| Meant::Upload {
                image,
                offset,
                length,
                sha,
                upgrade,
                data,
            }),
    ]
}

/// A request and its frame: unknown keys between the known ones, in any order, and bytes after the map.
fn any_request() -> impl Strategy<Value = (Asked, Vec<u8>)> {
    let own = vec(("[A-Z]{0,6}", any_item()), 0..4);
    let how = (
        0..2_u8,
        0..9_usize,
        option::of(0..9_usize),
        vec(any::<u8>(), 0..4),
    );
    (any_meant(), own, how)
        .prop_flat_map(|(expected, own, (version, least, definite, behind))| {
            let (op, group, command, known) = expected.said(least);
            let entries: Vec<(String, Item)> = known
                .iter()
                .map(|(key, item)| (key.to_string(), item.clone()))
                .chain(own)
                .collect();
            let asked = Asked {
                version,
                op,
                group,
                command,
                known,
                expected,
            };
            (
                Just(asked),
                Just(entries).prop_shuffle(),
                Just((least, definite, behind)),
            )
        })
        .prop_map(|(asked, entries, (least, definite, behind))| {
            let entries = entries
                .into_iter()
                .map(|(key, value)| (Item::Text(key, least), value));
            let mut payload = Vec::new();
            Item::Map(entries.collect(), definite).encode(&mut payload);
            payload.extend(behind);
            let frame = frame(asked.version, asked.op, asked.group, asked.command, &payload);
            (asked, frame)
        })
}

fn frame(version: u8, op: u8, group: u16, command: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        version,
        op,
        length: payload.len() as u16,
        group,
        sequence: 7,
        command,
    };
    [&header.encode(), payload].concat()
}

/// Answers that a device may give to any request: one of each kind, with extreme values.
fn answers(text: &str, number: u32, flag: bool) -> Vec<Response<'_>> {
    let mut answers = vec![
        Response::Empty,
        Response::Os(os_group::Response::Echo(text)),
        Response::Os(os_group::Response::Info(text)),
        Response::Os(os_group::Response::Bootloader { name: text }),
        Response::Os(os_group::Response::Mode {
            mode: number as i8,
            no_downgrade: flag,
        }),
        Response::Os(os_group::Response::Parameters {
            buf_size: number,
            buf_count: number,
        }),
        Response::Image(image_group::Response::Upload {
            offset: number,
            matches: flag.then_some(number > 7),
        }),
        Response::Image(image_group::Response::State(&[])),
    ];
    answers.extend(
        (0..14)
            .filter_map(Code::from_number)
            .map(|code| Response::Failed(Failure::Smp(code))),
    );
    answers.extend(
        (1..6)
            .filter_map(os_group::Error::from_number)
            .map(|error| Response::Failed(Failure::Os(error))),
    );
    answers.extend(
        (1..35)
            .filter_map(image_group::Error::from_number)
            .map(|error| Response::Failed(Failure::Image(error))),
    );
    answers
}

/// The answer is a frame with the request's numbers and one definite map that fills it, for any size of the buffer.
fn check_answer(request: &Header, response: &Response<'_>) {
    let context = smp::Context::of(request);
    let mut out = [0; 1200];
    let whole = encode(&context, response, &mut out);
    let head = Header::decode(&out).expect("an answer has a header");
    assert_eq!(head.frame_length(), whole);
    assert_eq!(
        (head.group, head.sequence, head.command),
        (request.group, request.sequence, request.command)
    );
    assert_eq!(head.version, request.version.min(1));
    assert_eq!(
        head.op,
        if request.op == op::READ {
            op::READ_RESPONSE
        } else {
            op::WRITE_RESPONSE
        }
    );
    let body = &out[smp::HEADER_SIZE..whole];
    assert_eq!(body[0] >> 5, 5, "a map");
    let mut reader = minicbor::Decoder::new(body);
    reader.skip().expect("definite CBOR");
    assert_eq!(reader.position(), body.len());
    for room in [0, 1, smp::MIN_ANSWER - 1, smp::MIN_ANSWER, whole - 1] {
        let mut short = vec![0; room];
        let length = encode(&context, response, &mut short);
        if whole <= room {
            assert_eq!(short[..length], out[..whole]);
        } else if room < smp::MIN_ANSWER {
            assert_eq!(length, 0);
        } else {
            assert_eq!(short[smp::HEADER_SIZE..length], *b"\xA1\x62rc\x07");
        }
    }
}

/// What a client reads in the answer to `response`: nothing is lost between the two ends.
fn check_reading(request: &Header, response: &Response<'_>) {
    let mut out = [0; 1200];
    let length = encode(&smp::Context::of(request), response, &mut out);
    let answer = Answer::decode(&out[..length]).expect("an answer");
    assert!(answer.is_to(request));
    let upload = answer.upload().expect("right types");
    let images = answer.images().expect("right types");
    match *response {
        Response::Empty => {
            assert_eq!(answer.error, None);
            assert_eq!((upload.offset, upload.matches), (None, None));
            assert!(images.is_none());
        }
        Response::Failed(Failure::Smp(Code::Ok)) => assert_eq!(answer.error, None),
        Response::Failed(failure) => {
            let expected = match (request.version, failure) {
                (0, Failure::Os(error)) => Failure::Smp(error.code()),
                (0, Failure::Image(error)) => Failure::Smp(error.code()),
                _ => failure,
            };
            let error = answer.error.expect("an error");
            assert_eq!(error.known(), Some(expected));
            assert_eq!(error.to_string(), expected.to_string());
        }
        Response::Os(os_group::Response::Echo(text)) => assert_eq!(answer.echo(), Ok(Some(text))),
        Response::Os(os_group::Response::Info(text)) => assert_eq!(answer.info(), Ok(Some(text))),
        Response::Os(os_group::Response::Bootloader { name }) => {
            assert_eq!(answer.bootloader(), Ok(Some(name)));
        }
        Response::Os(os_group::Response::Mode { mode, no_downgrade }) => {
            let found = answer.bootloader_mode().expect("right types").expect("a mode");
            assert_eq!((found.mode, found.no_downgrade), (mode.into(), no_downgrade));
        }
        Response::Os(os_group::Response::Parameters { buf_size, buf_count }) => {
            let found = answer.parameters().expect("right types").expect("parameters");
            assert_eq!(
                (found.buf_size, found.buf_count),
                (buf_size.into(), Some(buf_count.into()))
            );
        }
        Response::Image(image_group::Response::Upload { offset, matches }) => {
            assert_eq!((upload.offset, upload.matches), (Some(offset.into()), matches));
        }
        Response::Image(image_group::Response::State(expected)) => {
            let found: Result<Vec<_>, _> = images.expect("a list").collect();
            let expected = expected.iter().map(|image| ImageEntry {
                image: 0,
                slot: image.slot.into(),
                version: image.version,
                hash: Some(&image.hash),
                bootable: image.bootable,
                pending: image.pending,
                confirmed: image.confirmed,
                active: image.active,
                permanent: image.permanent,
            });
            assert_eq!(found, Ok(expected.collect()));
        }
        Response::Image(image_group::Response::SlotInfo { slots: expected, .. }) => {
            let found: Result<Vec<_>, _> = answer.slots().expect("right types").expect("a list").collect();
            let expected = expected.iter().map(|slot| SlotEntry {
                image: 0,
                slot: slot.slot.into(),
                size: Some(slot.size.into()),
                upload_image_id: slot.upload_image_id,
            });
            assert_eq!(found, Ok(expected.collect()));
        }
    }
}

/// An image as a server may describe it.
#[derive(Clone, Debug)]
struct Described {
    image: Option<u32>,
    slot: u32,
    version: String,
    hash: Vec<u8>,
    flags: [Option<bool>; 5],
}

const FLAGS: [&str; 5] = ["bootable", "pending", "confirmed", "active", "permanent"];

impl Described {
    fn item(&self, own: &[(String, Item)], definite: Option<usize>, in_pieces: bool) -> Item {
        let text = |text: &str| match in_pieces {
            true => Item::TextInPieces(vec![text.to_owned()]),
            false => Item::Text(text.to_owned(), 0),
        };
        let mut entries: Vec<(&str, Item)> = vec![
            ("slot", Item::Unsigned(self.slot.into(), 0)),
            ("version", text(&self.version)),
            (
                "hash",
                match in_pieces {
                    true => Item::BytesInPieces(vec![self.hash.clone()]),
                    false => Item::Bytes(self.hash.clone(), 0),
                },
            ),
        ];
        if let Some(image) = self.image {
            entries.push(("image", Item::Unsigned(image.into(), 0)));
        }
        for (key, flag) in FLAGS.into_iter().zip(self.flags) {
            if let Some(flag) = flag {
                entries.push((key, Item::Simple(if flag { &[0xF5] } else { &[0xF4] })));
            }
        }
        let own = own.iter().map(|(key, item)| (key.as_str(), item.clone()));
        let entries = own.chain(entries);
        let entries = entries.map(|(key, item)| (Item::Text(key.to_owned(), 0), item));
        Item::Map(entries.collect(), definite)
    }

    fn entry(&self) -> ImageEntry<'_> {
        let [bootable, pending, confirmed, active, permanent] = self.flags.map(Option::unwrap_or_default);
        ImageEntry {
            image: self.image.unwrap_or(0),
            slot: self.slot,
            version: &self.version,
            hash: Some(&self.hash),
            bootable,
            pending,
            confirmed,
            active,
            permanent,
        }
    }
}

fn any_described() -> impl Strategy<Value = Described> {
    let flags = prop::array::uniform5(any::<Option<bool>>());
    (
        any::<Option<u32>>(),
        any::<u32>(),
        ".{0,24}",
        vec(any::<u8>(), 0..40),
        flags,
    )
        .prop_map(|(image, slot, version, hash, flags)| Described {
            image,
            slot,
            version,
            hash,
            flags,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_decodes_the_same_in_every_encoding((asked, frame) in any_request()) {
        let message = decode(&frame).expect("a header");
        prop_assert_eq!(message.request, Ok(asked.expected.request()));
    }

    #[test]
    fn a_request_arrives_as_it_was_sent((asked, _) in any_request(), sequence in any::<u8>()) {
        let request = asked.expected.request();
        let mut out = [0; 1200];
        for version in [Version::V1, Version::V2] {
            let length = encode_request(version, sequence, &request, &mut out).expect("it fits");
            let message = decode(&out[..length]).expect("a header");
            prop_assert_eq!(message.request, Ok(request));
            prop_assert_eq!((message.context.version, message.context.sequence), (version, sequence));
            let header = Header::decode(&out).expect("a header");
            prop_assert_eq!(header.frame_length(), length);
            for room in 0..length {
                prop_assert_eq!(encode_request(version, sequence, &request, &mut vec![0; room]), None);
            }
        }
    }

    #[test]
    fn a_piece_fills_its_frame_to_the_last_byte(
        (image, upgrade) in any::<(u32, bool)>(),
        offset in option::of(any::<u64>()),
        length in option::of(0..3_000_000_u64),
        sha in option::of(vec(any::<u8>(), 0..300)),
        frame_size in prop_oneof![0..400_usize, 400..3_000_usize, 65_500..66_200_usize],
    ) {
        let head = Upload { image: image % 3, offset, length, sha: sha.as_deref(), upgrade, data: &[] };
        let whole = |data: &[u8]| {
            let request = Request::Image(image_group::Request::Upload(Upload { data, ..head }));
            let mut out = vec![0; 80_000];
            encode_request(Version::V2, 0, &request, &mut out)
        };
        let room = head.room(frame_size);
        // A frame cannot be longer than its length field can express.
        if frame_size > 65_535 + HEADER_SIZE {
            return Ok(());
        }
        let data = vec![0; room + 1];
        if room > 0 {
            prop_assert!(whole(&data[..room]).expect("short enough") <= frame_size);
        }
        // Above 65,543 bytes no frame exists.
        prop_assert!(whole(&data).is_none_or(|longer| longer > frame_size));
    }

    #[test]
    fn a_list_of_images_decodes_the_same_in_every_encoding(
        described in vec(any_described(), 0..4),
        own in vec(("[A-Z]{0,6}", any_item()), 0..3),
        (outer, array, inner) in any::<(bool, bool, bool)>(),
        in_pieces in any::<bool>(),
    ) {
        let definite = |definite: bool| definite.then_some(0);
        let images = described.iter().map(|image| image.item(&own, definite(inner), in_pieces));
        let mut entries: Vec<(Item, Item)> = own
            .iter()
            .map(|(key, item)| (Item::Text(key.clone(), 0), item.clone()))
            .collect();
        let list = Item::Array(images.collect(), definite(array));
        entries.push((Item::Text("images".to_owned(), 0), list));
        let mut payload = Vec::new();
        Item::Map(entries, definite(outer)).encode(&mut payload);
        let frame = frame(1, op::READ_RESPONSE, IMAGE_GROUP, 0, &payload);
        let answer = Answer::decode(&frame).expect("an answer");
        prop_assert_eq!(answer.error, None);
        let found: Result<Vec<_>, _> = answer.images().expect("a list").expect("a list").collect();
        prop_assert_eq!(found, Ok(described.iter().map(Described::entry).collect()));
    }

    #[test]
    fn any_bytes_decode_as_an_answer_or_an_error(
        payload in vec(
            prop_oneof![
                any::<u8>(),
                prop::sample::select(&[0xFF, 0xBF, 0xA1, 0x9F, 0x81, 0x66, 0x5F, 0x7F][..]),
                prop::sample::select(&b"images"[..]),
            ],
            0..80,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = frame(1, op::READ_RESPONSE, IMAGE_GROUP, 0, &payload);
        if let Ok(answer) = Answer::decode(&frame[..cut.index(frame.len() + 1)]) {
            let _ = (answer.echo(), answer.parameters(), answer.info(), answer.bootloader());
            let _ = (answer.bootloader_mode(), answer.upload());
            let images = answer.images().ok().flatten().map_or(0, Iterator::count);
            let slots = answer.slots().ok().flatten().map_or(0, Iterator::count);
            prop_assert!(images <= payload.len() && slots <= 2 * payload.len());
        }
        prop_assert_eq!(Answer::decode(&[]).err(), Some(AnswerError::Short));
    }

    #[test]
    fn a_duplicate_of_a_known_key_is_invalid_at_any_position(
        (asked, frame) in any_request().prop_filter("a reset tolerates any payload, and a map without keys has no duplicate", |(asked, _)| {
            !asked.known.is_empty() && !matches!(asked.expected, Meant::Reset(..))
        }),
        which in any::<prop::sample::Index>(),
    ) {
        let (key, value) = &asked.known[which.index(asked.known.len())];
        // The request's own map, with one entry added in front.
        let mut own = minicbor::Decoder::new(&frame[smp::HEADER_SIZE..]);
        let count = own.map().expect("a map");
        let mut payload = Vec::new();
        begin(5, count.map_or(0, |count| count as usize + 1), count.map(|_| 0), &mut payload);
        Item::Text(key.to_string(), 0).encode(&mut payload);
        value.encode(&mut payload);
        payload.extend(&frame[smp::HEADER_SIZE + own.position()..]);
        let twice = self::frame(asked.version, asked.op, asked.group, asked.command, &payload);
        prop_assert_eq!(decode(&twice).expect("a header").request, Err(Code::Invalid));
    }

    #[test]
    fn any_bytes_decode_as_a_request_or_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        if let Some(message) = decode(&bytes) {
            let header = Header::decode(&bytes).expect("decoded before");
            if let Err(code) = message.request {
                check_answer(&header, &Response::Failed(Failure::Smp(code)));
            }
        }
    }

    #[test]
    fn any_payload_decodes_as_a_request_or_is_invalid(
        payload in vec(prop_oneof![any::<u8>(), Just(0xFF), Just(0xBF), Just(0xA1), Just(0x61), Just(b'd')], 0..60),
        (op, group, command) in (prop_oneof![Just(0), Just(2)], 0..2_u16, 0..9_u8),
    ) {
        let frame = frame(1, op, group, command, &payload);
        match decode(&frame).expect("a header").request {
            Ok(_) | Err(Code::Invalid | Code::NotSupported) => {}
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn damaged_requests_decode_or_are_refused(
        (_, mut frame) in any_request(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        for (place, byte) in damage {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        frame.truncate(end.index(frame.len() + 1));
        let _ = decode(&frame);
    }

    #[test]
    fn every_answer_is_one_definite_map(
        (asked, _) in any_request(),
        text in ".{0,60}",
        number in any::<u32>(),
        flag in any::<bool>(),
    ) {
        let request = Header {
            version: asked.version,
            op: asked.op,
            length: 0,
            group: asked.group,
            sequence: number as u8,
            command: asked.command,
        };
        for response in answers(&text, number, flag) {
            check_answer(&request, &response);
            check_reading(&request, &response);
        }
        let image = ImageState {
            slot: number as u8,
            version: &text,
            hash: [number as u8; 32],
            bootable: flag,
            pending: !flag,
            confirmed: flag,
            active: !flag,
            permanent: flag,
        };
        let images = [image, image];
        let response = Response::Image(image_group::Response::State(&images));
        check_answer(&request, &response);
        check_reading(&request, &response);
        let slots = [
            SlotInfo { slot: 0, size: number, upload_image_id: None },
            SlotInfo { slot: 1, size: !number, upload_image_id: flag.then_some(number) },
        ];
        let response = image_group::Response::SlotInfo { slots: &slots, max_image_size: number };
        check_answer(&request, &Response::Image(response));
        check_reading(&request, &Response::Image(response));
    }

    #[test]
    fn a_console_frame_arrives_after_any_earlier_bytes(
        before in vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\x06\x09\x04\x14\nA="[..])], 0..400),
        frame in vec(any::<u8>(), 0..300),
    ) {
        let mut encoder = smp_console::Encoder::new(&frame).expect("short enough");
        let mut stream = before;
        stream.push(b'\n');
        let mut line = [0; smp_console::MAX_LINE];
        while let Some(line) = encoder.next_line(&mut line) {
            stream.extend(line);
        }
        let mut decoder = smp_console::Decoder::<300>::new();
        let mut last = None;
        for byte in stream {
            if let Some(Ok(got)) = decoder.push(byte) {
                last = Some(got.to_vec());
            }
        }
        prop_assert_eq!(last, Some(frame));
    }
}
