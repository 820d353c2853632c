// SPDX-License-Identifier: Apache-2.0
//! The C half of the ABI in Rust, for tests on a PC: flashes in RAM, a peer that records what it receives, and time
//! that passes only in sleeps.

// A test that uses it wrongly panics.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use crate::abi;
use crate::flash::Partition;
use std::string::{String, ToString};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

/// How long a notification waits for a buffer, in ms.
pub const BUFFER_MS: u64 = 50;

/// The processor's address of the primary slot.
pub const PRIMARY_ADDRESS: u32 = 0xD000;

/// A partition as the devicetree describes it, in bytes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Geometry {
    pub size: u32,
    pub start: u32,
    pub sector: u32,
    pub unit: u32,
}

struct State {
    geometry: [Geometry; 5],
    flash: [Vec<u8>; 5],
    flash_calls: u32,
    next_flash_call: i32,
    refusals: (u32, i32),
    notified: Vec<Vec<u8>>,
    forwarded: Vec<Vec<u8>>,
    answer: Vec<u8>,
    events: Vec<(u8, u32, u32)>,
    veto: bool,
    lines: Vec<(u8, String)>,
    now_ms: u64,
    disconnects: u32,
    feeds: u32,
    indicated: Vec<Vec<u8>>,
    retained: Vec<u8>,
    is_update_mode: bool,
    verdict: i32,
    signature: Signature,
}

/// Key, digest, and signature.
type Signature = ([u8; 64], [u8; 32], [u8; 64]);

static STATE: Mutex<Option<State>> = Mutex::new(None);
/// Tests run on several threads, but there is one device.
static TURN: Mutex<()> = Mutex::new(());
static PACKAGE_KEY: [u8; 64] = [0x11; 64];
static IMAGE_KEYS: [u8; 128] = [0x22; 128];

fn state<R>(work: impl FnOnce(&mut State) -> R) -> R {
    let mut state = STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    work(
        state
            .as_mut()
            .expect("take a fake::device() first, and keep it while the test runs"),
    )
}

/// The device of one test.
pub struct Device(#[allow(dead_code)] MutexGuard<'static, ()>);

/// A fresh device: slots of 64 KiB, a journal of two sectors. Other tests wait until it is dropped.
pub fn device() -> Device {
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let slot = Geometry {
        size: 0x10000,
        start: 0x10000,
        sector: 4096,
        unit: 4,
    };
    let journal = Geometry { size: 8192, ..slot };
    *STATE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(State {
        geometry: [slot, slot, journal, slot, journal],
        flash: [slot, slot, journal, slot, journal].map(|area| std::vec![0xFF; area.size as usize]),
        flash_calls: 0,
        next_flash_call: 0,
        refusals: (0, 0),
        notified: Vec::new(),
        forwarded: Vec::new(),
        answer: Vec::new(),
        events: Vec::new(),
        veto: false,
        lines: Vec::new(),
        now_ms: 0,
        disconnects: 0,
        feeds: 0,
        indicated: Vec::new(),
        retained: Vec::new(),
        is_update_mode: false,
        verdict: 0,
        signature: ([0; 64], [0; 32], [0; 64]),
    });
    Device(turn)
}

#[allow(missing_docs)]
impl Device {
    pub fn set_geometry(&self, partition: Partition, geometry: Geometry) {
        state(|state| state.geometry[partition as usize] = geometry);
    }
    pub fn contents(&self, partition: Partition) -> Vec<u8> {
        state(|state| state.flash[partition as usize].clone())
    }
    pub fn program(&self, partition: Partition, bytes: &[u8]) {
        state(|state| state.flash[partition as usize][..bytes.len()].copy_from_slice(bytes));
    }
    /// Erases and programs so far.
    pub fn flash_calls(&self) -> u32 {
        state(|state| state.flash_calls)
    }
    /// Lets the next erase or program return this status and do nothing.
    pub fn next_flash_call(&self, status: i32) {
        state(|state| state.next_flash_call = status);
    }
    pub fn refuse_notifications(&self, times: u32, status: i32) {
        state(|state| state.refusals = (times, status));
    }
    pub fn notified(&self) -> Vec<Vec<u8>> {
        state(|state| state.notified.clone())
    }
    pub fn events(&self) -> Vec<(u8, u32, u32)> {
        state(|state| state.events.clone())
    }
    pub fn veto(&self, veto: bool) {
        state(|state| state.veto = veto);
    }
    pub fn lines(&self) -> Vec<(u8, String)> {
        state(|state| state.lines.clone())
    }
    pub fn uptime_ms(&self) -> u64 {
        state(|state| state.now_ms)
    }
    pub fn disconnects(&self) -> u32 {
        state(|state| state.disconnects)
    }
    pub fn indicated(&self) -> Vec<Vec<u8>> {
        state(|state| state.indicated.clone())
    }
    pub fn retained(&self) -> Vec<u8> {
        state(|state| state.retained.clone())
    }
    pub fn start_in_update_mode(&self) {
        state(|state| state.is_update_mode = true);
    }
    pub fn sleep_ms(&self, ms: u64) {
        state(|state| state.now_ms += ms);
    }
    /// The status of every signature check from now on.
    pub fn answer_signatures_with(&self, status: i32) {
        state(|state| state.verdict = status);
    }
    /// What was checked last.
    pub fn signature(&self) -> Signature {
        state(|state| state.signature)
    }
    pub fn feeds(&self) -> u32 {
        state(|state| state.feeds)
    }
}

#[no_mangle]
extern "C" fn bledfu_shim_flash_open(
    area: u8,
    size: &mut u32,
    start: &mut u32,
    sector: &mut u32,
    unit: &mut u32,
) -> i32 {
    let geometry = state(|state| state.geometry[usize::from(area)]);
    (*size, *start) = (geometry.size, geometry.start);
    (*sector, *unit) = (geometry.sector, geometry.unit);
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_flash_read(area: u8, offset: u32, bytes: *mut u8, length: u32) -> i32 {
    assert!(length <= 256, "one page at most");
    // SAFETY: `Area::read` passes a slice's pointer and length.
    let bytes = unsafe { core::slice::from_raw_parts_mut(bytes, length as usize) };
    state(|state| {
        let offset = offset as usize;
        bytes.copy_from_slice(&state.flash[usize::from(area)][offset..offset + bytes.len()]);
    });
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_flash_write(area: u8, offset: u32, bytes: *const u8, length: u32) -> i32 {
    assert!(offset / 256 == (offset + length - 1) / 256, "within one page");
    // SAFETY: `Area::write` passes a slice's pointer and length.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, length as usize) };
    flash_call(|state| {
        let place = &mut state.flash[usize::from(area)][offset as usize..];
        for (to, from) in place.iter_mut().zip(bytes) {
            *to &= from;
        }
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_flash_erase(area: u8, offset: u32, length: u32) -> i32 {
    flash_call(|state| {
        let range = offset as usize..(offset + length) as usize;
        state.flash[usize::from(area)][range].fill(0xFF);
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_primary_address() -> u32 {
    PRIMARY_ADDRESS
}

fn flash_call(work: impl FnOnce(&mut State)) -> i32 {
    state(|state| {
        state.flash_calls += 1;
        match core::mem::take(&mut state.next_flash_call) {
            0 => {
                work(state);
                0
            }
            status => status,
        }
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_payload() -> u32 {
    100
}

#[no_mangle]
#[allow(non_upper_case_globals)]
static bledfu_shim_kernel_version: [u8; 6] = *b"4.2.0\0";

#[no_mangle]
extern "C" fn bledfu_shim_notify(_channel: u8, bytes: *const u8, length: u32) -> i32 {
    // SAFETY: `notify` passes a slice's pointer and length.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, length as usize) };
    state(|state| {
        if state.refusals.0 > 0 {
            state.refusals.0 -= 1;
            if state.refusals.1 == abi::NO_BUFFER {
                state.now_ms += BUFFER_MS;
            }
            return state.refusals.1;
        }
        state.notified.push(bytes.to_vec());
        0
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_delivered(_timeout_ms: u32) -> i32 {
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_disconnect() {
    state(|state| state.disconnects += 1);
}

#[no_mangle]
extern "C" fn bledfu_shim_hurry() {}

/// Frames that the fake's MCUmgr holds.
pub const MCUMGR_BUFFERS: usize = 4;

/// An MCUmgr that echoes.
#[no_mangle]
extern "C" fn bledfu_shim_smp_forward(bytes: *const u8, length: u32) -> i32 {
    if length > 500 {
        return abi::TOO_LONG;
    }
    if state(|state| state.forwarded.len()) >= MCUMGR_BUFFERS {
        return abi::NO_BUFFER;
    }
    // SAFETY: the caller passes `length` readable bytes.
    let frame = unsafe { std::slice::from_raw_parts(bytes, length as usize) }.to_vec();
    state(|state| state.forwarded.push(frame));
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_smp_answer(bytes: *mut *const u8) -> u32 {
    state(|state| {
        if state.forwarded.is_empty() {
            return 0;
        }
        state.answer = state.forwarded.remove(0);
        // SAFETY: the caller passes a place for one pointer.
        unsafe { *bytes = state.answer.as_ptr() };
        state.answer.len() as u32
    })
}

#[no_mangle]
extern "C" fn bt_enable(_ready: *const core::ffi::c_void) -> i32 {
    0
}

#[no_mangle]
extern "C" fn bt_is_ready() -> bool {
    true
}

#[no_mangle]
extern "C" fn bledfu_advertising_start() -> i32 {
    0
}

#[no_mangle]
extern "C" fn bledfu_update_mode_run() {}

#[no_mangle]
extern "C" fn bledfu_is_update_mode() -> bool {
    state(|state| state.is_update_mode)
}

#[no_mangle]
extern "C" fn bledfu_shim_indicate(bytes: *const u8, length: u32) -> i32 {
    // SAFETY: `indicate` passes a slice's pointer and length.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, length as usize) };
    state(|state| state.indicated.push(bytes.to_vec()));
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_retain(bytes: *const u8, length: u32) -> i32 {
    // SAFETY: `retain` passes a slice's pointer and length.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, length as usize) };
    state(|state| state.retained = bytes.to_vec());
    0
}

#[no_mangle]
extern "C" fn bledfu_shim_leave() -> ! {
    panic!("the device leaves");
}

#[no_mangle]
extern "C" fn bledfu_allow_updates() -> i32 {
    0
}

#[no_mangle]
extern "C" fn bledfu_confirm() -> i32 {
    0
}

static LOCKED: Mutex<bool> = Mutex::new(false);

#[no_mangle]
extern "C" fn bledfu_shim_lock() -> u32 {
    let mut locked = LOCKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert!(!*locked, "the lock is not recursive");
    *locked = true;
    42
}

#[no_mangle]
extern "C" fn bledfu_shim_unlock(key: u32) {
    assert_eq!(key, 42);
    *LOCKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = false;
}

#[no_mangle]
extern "C" fn bledfu_shim_wait(timeout_ms: u32) {
    bledfu_shim_sleep_ms(timeout_ms);
}

#[no_mangle]
extern "C" fn bledfu_shim_wake() {}

#[no_mangle]
extern "C" fn bledfu_shim_made_room() {}

#[no_mangle]
extern "C" fn bledfu_shim_uptime_ms() -> u64 {
    state(|state| state.now_ms)
}

#[no_mangle]
extern "C" fn bledfu_shim_sleep_ms(ms: u32) {
    state(|state| state.now_ms += u64::from(ms));
}

#[no_mangle]
extern "C" fn bledfu_shim_reset() -> ! {
    panic!("the device resets");
}

#[no_mangle]
extern "C" fn bledfu_shim_event(event: u8, first: u32, second: u32) -> u32 {
    state(|state| {
        state.events.push((event, first, second));
        u32::from(state.veto)
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_keys(kind: u8, bytes: &mut *const u8) -> u32 {
    let keys: &[u8] = if kind == 0 { &PACKAGE_KEY } else { &IMAGE_KEYS };
    *bytes = keys.as_ptr();
    (keys.len() / 64) as u32
}

#[no_mangle]
extern "C" fn bledfu_shim_verify(key: &[u8; 64], digest: &[u8; 32], signature: &[u8; 64]) -> i32 {
    state(|state| {
        state.signature = (*key, *digest, *signature);
        state.verdict
    })
}

#[no_mangle]
extern "C" fn bledfu_shim_boot_feed() {
    state(|state| state.feeds += 1);
}

#[no_mangle]
extern "C" fn bledfu_shim_boot_wait() {}

#[no_mangle]
extern "C" fn bledfu_shim_log(level: u8, line: *const core::ffi::c_char) {
    // SAFETY: `Zephyr::log` passes a text that ends with a zero byte.
    let line = unsafe { core::ffi::CStr::from_ptr(line) };
    let line = line.to_str().unwrap_or("not UTF-8").to_string();
    state(|state| state.lines.push((level, line)));
}

#[no_mangle]
extern "C" fn bledfu_shim_panic(_file: *const u8, _length: u32, line: u32) -> ! {
    panic!("panic in line {line}");
}
