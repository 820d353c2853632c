// SPDX-License-Identifier: Apache-2.0
//! What the worker thread and the Bluetooth thread share; time; panic and reset; events for the product.

use crate::abi;
use core::cell::UnsafeCell;

/// A value that both threads use, one at a time, behind the shim's spin lock: hold it for a copy, not for work.
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: `with` is the only access to the value. It holds the spin lock, which keeps out threads and interrupts of
// every core. The value is passed between threads, hence `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A new value, for a `static`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Uses the value. Must not be called from within `work`: the lock is not recursive.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: no arguments.
        let key = unsafe { abi::bledfu_shim_lock() };
        // SAFETY: the lock is held, so this is the only reference; it ends before the lock is given back. Nothing
        // can unwind through here: the firmware is built with panic = "abort".
        let result = work(unsafe { &mut *self.0.get() });
        // SAFETY: the key is the one the lock was taken with.
        unsafe { abi::bledfu_shim_unlock(key) };
        result
    }
}

/// Zephyr's version, such as `4.2.0`.
pub fn kernel_version() -> &'static str {
    // SAFETY: it is the first byte of a constant text that ends with a zero byte.
    let version = unsafe { core::ffi::CStr::from_ptr(&raw const abi::bledfu_shim_kernel_version) };
    version.to_str().unwrap_or_default()
}

/// Sleeps until [`wake`], or for `timeout_ms`.
pub fn wait(timeout_ms: u32) {
    // SAFETY: integers only.
    unsafe { abi::bledfu_shim_wait(timeout_ms) }
}

/// Wakes the worker; may be called from any thread.
pub fn wake() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_wake() }
}

/// Wakes the Bluetooth thread if it waits for room in the ring.
pub fn made_room() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_made_room() }
}

/// Milliseconds since the start.
pub fn uptime_ms() -> u64 {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_uptime_ms() }
}

/// Sleeps.
pub fn sleep_ms(ms: u32) {
    // SAFETY: integers only.
    unsafe { abi::bledfu_shim_sleep_ms(ms) }
}

/// Resets the device.
pub fn reset() -> ! {
    // SAFETY: no arguments; C does not return.
    unsafe { abi::bledfu_shim_reset() }
}

/// Logs a panic and ends with Zephyr's `k_panic`. For a `#[panic_handler]`.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (file, line) = info
        .location()
        .map_or(("", 0), |place| (place.file(), place.line()));
    // SAFETY: C reads `file.len()` bytes and does not return.
    unsafe { abi::bledfu_shim_panic(file.as_ptr(), file.len() as u32, line) }
}

/// Events for the product (`enum bledfu_event` of `bledfu.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service accepts requests.
    Ready {
        /// The running image is confirmed.
        confirmed: bool,
        /// Its firmware version.
        fw_version: u32,
    },
    /// The service cannot run with this build; the log says why.
    Failed,
    /// A package was accepted. The product may veto it.
    Started {
        /// Of the image, in bytes.
        size: u32,
        /// Of the package.
        fw_version: u32,
    },
    /// An object is in flash.
    Progress {
        /// Bytes in flash.
        received: u32,
        /// Of the image, in bytes.
        size: u32,
    },
    /// The image is complete, verified and marked for the boot stage.
    Staged {
        /// Of the image, in bytes.
        size: u32,
        /// Of the package.
        fw_version: u32,
    },
    /// A request was refused.
    Refused {
        /// Op code, result code and extended code (0 if none) of the protocol: `op << 16 | extended << 8 | result`.
        code: u32,
    },
    /// The device is about to reset. After a veto the product resets it itself.
    Resetting,
    /// The image was confirmed, or could not be.
    Confirmed {
        /// Whether it succeeded.
        done: bool,
    },
}

/// Questions for the product: events of `enum bledfu_event` that only some builds have, so that others need no code for
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Question {
    /// A phone asks for the update mode.
    UpdateMode = 8,
    /// A peer requests a reset over SMP.
    Reset = 9,
}

/// The product's answer to an event (`enum bledfu_answer` of `bledfu.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    GoOn,
    /// Do not.
    Veto,
    /// Not now.
    Postpone,
}

impl Answer {
    #[inline(always)]
    const fn new(number: u32) -> Self {
        match number {
            0 => Self::GoOn,
            2 => Self::Postpone,
            _ => Self::Veto,
        }
    }
}

/// Tells the product, and returns its answer.
pub fn tell(event: Event) -> Answer {
    let (number, first, second) = match event {
        Event::Ready {
            confirmed,
            fw_version,
        } => (0, u32::from(confirmed), fw_version),
        Event::Failed => (1, 0, 0),
        Event::Started { size, fw_version } => (2, size, fw_version),
        Event::Progress { received, size } => (3, received, size),
        Event::Staged { size, fw_version } => (4, size, fw_version),
        Event::Refused { code } => (5, code, 0),
        Event::Resetting => (6, 0, 0),
        Event::Confirmed { done } => (7, u32::from(done), 0),
    };
    // SAFETY: integers only.
    Answer::new(unsafe { abi::bledfu_shim_event(number, first, second) })
}

/// Asks the product.
pub fn ask(question: Question) -> Answer {
    // SAFETY: integers only.
    Answer::new(unsafe { abi::bledfu_shim_event(question as u8, 0, 0) })
}

/// The purpose of public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Keys {
    /// For init packets.
    Package = 0,
    /// For images.
    Image = 1,
}

/// The public keys built into the firmware, X and Y of each.
pub fn keys(kind: Keys) -> &'static [[u8; 64]] {
    let mut bytes = core::ptr::null();
    // SAFETY: C writes one pointer to the local.
    let count = unsafe { abi::bledfu_shim_keys(kind as u8, &mut bytes) };
    if bytes.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: C passes a constant array of `count` keys of 64 bytes each that lives as long as the program; bytes have
    // no alignment.
    unsafe { core::slice::from_raw_parts(bytes.cast(), count as usize) }
}

/// Why a frame was refused, as a status of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum NotTaken {
    /// No room: the peer has sent more than it may before it waits for an answer. The loss of a packet is recorded,
    /// unless its caller waits.
    Full = abi::NO_BUFFER,
    /// Packets before this one were lost: so is this one.
    Lost = abi::LOST,
    /// The frame is too long and can never fit.
    TooLong = abi::TOO_LONG,
    /// The channel does not exist.
    NoChannel = abi::NO_CHANNEL,
}

/// The firmware's side of the calls from C.
pub trait Service {
    /// Bluetooth thread: the peer wrote `bytes` to the control point (0), to the packet characteristic (1) or to the SMP
    /// characteristic (2). Copies them and returns; never waits. With `may_wait`, the caller offers a packet that finds
    /// no room ([`NotTaken::Full`]) again, and at last without `may_wait`.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing was stored then.
    fn push(channel: u8, bytes: &[u8], may_wait: bool) -> Result<(), NotTaken>;
    /// Bluetooth thread: a peer has subscribed, or the current one is gone.
    fn link(up: bool);
    /// Bluetooth thread: whether the peer has paired as the product requires.
    fn peer(trusted: bool);
    /// Any thread: a person at the device wants an update.
    fn allow_updates();
    /// Any thread: the application wants its image confirmed; the worker does it.
    fn confirm();
    /// The worker thread. Returns only when the service cannot run.
    fn run();
    /// The worker thread, after that, each time it is woken: what can be done without the service.
    fn without_service();
    /// Bluetooth thread: a peer wrote to the buttonless characteristic. False: the write before is not answered yet.
    fn buttonless(bytes: &[u8], is_bonded: bool, reached: [u8; 7]) -> bool;
    /// Bluetooth thread: the answer to it was confirmed; with `is_gone`, the peer's link is gone.
    fn buttonless_over(is_gone: bool);
    /// At the start: what retained memory holds. `None`: the application.
    fn update_mode(retained: &[u8]) -> Option<UpdateMode>;
}

/// How the update mode advertises; `struct bledfu_update_mode` of `bledfu_shim.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UpdateMode {
    /// Kind of the address (0 public, 1 random), then the address, lowest byte first; kind FF: the device's own.
    pub address: [u8; 7],
    /// Bytes of the name; 0: the device's own name.
    pub name_length: u8,
    /// The name.
    pub name: [u8; 20],
}

/// Gives C its entry points `bledfu_rs_*` (`bledfu_shim.h`) into a [`Service`].
#[macro_export]
macro_rules! export_entry_points {
    ($service:ty) => {
        /// See `bledfu_shim.h`.
        ///
        /// # Safety
        /// `bytes` points to `length` readable bytes, or `length` is 0.
        #[no_mangle]
        pub unsafe extern "C" fn bledfu_rs_push(
            channel: u8,
            bytes: *const u8,
            length: u32,
            may_wait: u8,
        ) -> i32 {
            let bytes = if bytes.is_null() || length == 0 {
                &[][..]
            } else {
                // SAFETY: guaranteed by the caller; the slice is not kept.
                unsafe { ::core::slice::from_raw_parts(bytes, length as usize) }
            };
            match <$service as $crate::worker::Service>::push(channel, bytes, may_wait != 0) {
                Ok(()) => 0,
                Err(error) => error as i32,
            }
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_link(up: u8) {
            <$service as $crate::worker::Service>::link(up != 0);
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_peer(trusted: u8) {
            <$service as $crate::worker::Service>::peer(trusted != 0);
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_allow_updates() {
            <$service as $crate::worker::Service>::allow_updates();
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_confirm() {
            <$service as $crate::worker::Service>::confirm();
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_run() {
            <$service as $crate::worker::Service>::run();
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_without_service() {
            <$service as $crate::worker::Service>::without_service();
        }

        /// See `bledfu_shim.h`.
        ///
        /// # Safety
        /// `bytes` points to `length` readable bytes, or `length` is 0; `reached` to 7.
        #[no_mangle]
        pub unsafe extern "C" fn bledfu_rs_buttonless(
            bytes: *const u8,
            length: u32,
            is_bonded: u8,
            reached: *const [u8; 7],
        ) -> u8 {
            let bytes = if bytes.is_null() || length == 0 {
                &[][..]
            } else {
                // SAFETY: guaranteed by the caller; the slice is not kept.
                unsafe { ::core::slice::from_raw_parts(bytes, length as usize) }
            };
            // SAFETY: guaranteed by the caller; bytes have no alignment.
            let reached = unsafe { *reached };
            u8::from(<$service as $crate::worker::Service>::buttonless(
                bytes,
                is_bonded != 0,
                reached,
            ))
        }

        /// See `bledfu_shim.h`.
        #[no_mangle]
        pub extern "C" fn bledfu_rs_buttonless_over(is_gone: u8) {
            <$service as $crate::worker::Service>::buttonless_over(is_gone != 0);
        }

        /// See `bledfu_shim.h`.
        ///
        /// # Safety
        /// `retained` points to `length` readable bytes, `mode` to a place for one.
        #[no_mangle]
        pub unsafe extern "C" fn bledfu_rs_update_mode(
            retained: *const u8,
            length: u32,
            mode: *mut $crate::worker::UpdateMode,
        ) -> u8 {
            // SAFETY: guaranteed by the caller; the slice is not kept.
            let retained = unsafe { ::core::slice::from_raw_parts(retained, length as usize) };
            match <$service as $crate::worker::Service>::update_mode(retained) {
                Some(found) => {
                    // SAFETY: guaranteed by the caller.
                    unsafe { mode.write(found) };
                    1
                }
                None => 0,
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use std::vec::Vec;

    static SEEN: Shared<Vec<(u8, usize)>> = Shared::new(Vec::new());

    struct Echo;

    impl Service for Echo {
        fn push(channel: u8, bytes: &[u8], _may_wait: bool) -> Result<(), NotTaken> {
            if bytes.len() > 4 {
                return Err(NotTaken::TooLong);
            }
            SEEN.with(|seen| seen.push((channel, bytes.len())));
            Ok(())
        }
        fn link(up: bool) {
            SEEN.with(|seen| seen.push((0xF0, usize::from(up))));
        }
        fn peer(trusted: bool) {
            SEEN.with(|seen| seen.push((0xF1, usize::from(trusted))));
        }
        fn allow_updates() {
            SEEN.with(|seen| seen.push((0xF2, 0)));
        }
        fn confirm() {}
        fn run() {}
        fn without_service() {}
        fn buttonless(bytes: &[u8], is_bonded: bool, reached: [u8; 7]) -> bool {
            SEEN.with(|seen| seen.push((0xF3 + u8::from(is_bonded), bytes.len() + usize::from(reached[6]))));
            is_bonded
        }
        fn buttonless_over(is_gone: bool) {
            SEEN.with(|seen| seen.push((0xF5, usize::from(is_gone))));
        }
        fn update_mode(retained: &[u8]) -> Option<UpdateMode> {
            (retained.len() == 5).then_some(UpdateMode {
                address: [1; 7],
                name_length: 3,
                name: [b'n'; 20],
            })
        }
    }

    crate::export_entry_points!(Echo);

    #[test]
    fn c_calls_become_slices_and_refusals_become_statuses() {
        let _device = fake::device();
        let bytes = [1, 2, 3, 4, 5];
        // SAFETY: lengths are within `bytes`, and a null pointer comes with none.
        unsafe {
            assert_eq!(bledfu_rs_push(1, bytes.as_ptr(), 3, 0), 0);
            assert_eq!(bledfu_rs_push(0, core::ptr::null(), 0, 0), 0);
            assert_eq!(bledfu_rs_push(1, bytes.as_ptr(), 5, 0), abi::TOO_LONG);
        }
        bledfu_rs_link(1);
        bledfu_rs_peer(1);
        bledfu_rs_allow_updates();
        let calls = [(1, 3), (0, 0), (0xF0, 1), (0xF1, 1), (0xF2, 0)];
        assert_eq!(SEEN.with(core::mem::take), calls);
    }

    #[test]
    fn a_buttonless_request_and_what_was_retained_pass_through_c() {
        let _device = fake::device();
        SEEN.with(Vec::clear);
        let (bytes, reached) = ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7]);
        let mut mode = UpdateMode {
            address: [0; 7],
            name_length: 0,
            name: [0; 20],
        };
        // SAFETY: lengths are those of the arrays.
        unsafe {
            assert_eq!(bledfu_rs_buttonless(bytes.as_ptr(), 1, 1, &raw const reached), 1);
            assert_eq!(
                bledfu_rs_buttonless(core::ptr::null(), 0, 0, &raw const reached),
                0
            );
            assert_eq!(bledfu_rs_update_mode(bytes.as_ptr(), 4, &raw mut mode), 0);
            assert_eq!(mode.name_length, 0);
            assert_eq!(bledfu_rs_update_mode(bytes.as_ptr(), 5, &raw mut mode), 1);
        }
        bledfu_rs_buttonless_over(1);
        assert_eq!((mode.name_length, mode.address), (3, [1; 7]));
        assert_eq!(SEEN.with(core::mem::take), [(0xF4, 8), (0xF3, 7), (0xF5, 1)]);
    }

    #[test]
    fn events_reach_the_product_and_its_veto_comes_back() {
        let device = fake::device();
        assert_eq!(tell(Event::Progress { received: 1, size: 2 }), Answer::GoOn);
        device.veto(true);
        assert_eq!(tell(Event::Resetting), Answer::Veto);
        assert_eq!(device.events(), [(3, 1, 2), (6, 0, 0)]);
    }

    #[test]
    fn keys_are_those_built_in() {
        let _device = fake::device();
        assert_eq!(keys(Keys::Package), [[0x11; 64]]);
        assert_eq!(keys(Keys::Image).len(), 2);
    }
}
