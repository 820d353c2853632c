// SPDX-License-Identifier: Apache-2.0
//! Any first bytes and any entry of a packed file: what is accepted keeps its bounds.
#![no_main]

use bledfu_patch::record::{Header, HEADER_SIZE};
use bledfu_patch::{Method, Pack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, entry)) = data.split_first_chunk::<{ HEADER_SIZE as usize }>() else {
        return;
    };
    let file_len = entry.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    if let Ok(header) = Header::decode(first, file_len) {
        assert!(Header::is_marked(first));
        assert!(header.stream_len > 0);
        let known = u64::from(HEADER_SIZE) + u64::from(header.stream_len) + u64::from(header.protected_len);
        assert!(known < u64::from(file_len));
    }
    if let Ok(pack) = Pack::decode(entry, 0xE8000, 96) {
        assert!(pack.out_size > HEADER_SIZE && pack.out_size <= 0xE8000);
        assert!((32..=96).contains(&pack.table_entries()));
        assert_eq!(pack.method == Method::Full, pack.base_len == 0);
        assert_eq!(pack.encode()[..], *entry);
    }
});
