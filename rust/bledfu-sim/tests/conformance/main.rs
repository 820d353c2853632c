// SPDX-License-Identifier: Apache-2.0
//! The numbered cases of `doc/conformance/secure-dfu.md`, on a whole device: ring, front end, upload, slot writer, journal,
//! flash.
//!
//! Requests and answers are compared byte for byte with the page. The page's image P is not an MCUboot image, so this
//! device refuses it at the very last Execute (`60 04 0B 0C`). Everything before that is shown with P, and the success
//! of the last Execute with a real signed image of the same 5000 bytes.

#[path = "../harness/mod.rs"]
mod harness;

mod command;
mod data;
mod init;
mod link;
mod objects;
mod receipts;
mod resume;
mod serial;

#[test]
fn the_vectors_have_the_sizes_and_crcs_of_the_page() {
    use bledfu_sim::phone::secure_dfu::crc32;
    use harness::*;

    let p = image_p();
    let sums: [(usize, u32); 9] = [
        (240, 0x9A0C_A945),
        (244, 0xD728_F1B4),
        (488, 0x099E_6E42),
        (500, 0x5E27_5FB2),
        (2928, 0x8461_1BF4),
        (4096, 0x5E4E_1995),
        (4196, 0xC6FD_1C1F),
        (4340, 0x3416_F6A0),
        (5000, 0x1ABD_04D4),
    ];
    for (length, sum) in sums {
        assert_eq!(crc32(&p[..length]), sum, "CRC of {length} bytes of P");
    }
    let digest = "34398b85297bf7d9dfb59b8d511d8bbb44ab23e891570e4395e7871475fc8afb";
    assert_eq!(sha256(&p).to_vec(), hex(digest));

    let (i, u) = (packet_i(), packet_u());
    assert_eq!((i.len(), crc32(&i)), (139, 0xDABD_F22B));
    assert_eq!((crc32(&i[..20]), crc32(&i[..100])), (0x5FE4_DD95, 0x15C6_5263));
    assert_eq!((u.len(), crc32(&u)), (68, 0xC345_596C));
    assert_eq!(
        init_for(&p),
        i,
        "signatures of the simulator's key are deterministic"
    );

    let x = "515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f";
    let y = "4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";
    assert_eq!(
        package_key().public().as_bytes().to_vec(),
        hex(&format!("{x}{y}"))
    );
    assert_eq!(update_image().len(), p.len());
}
