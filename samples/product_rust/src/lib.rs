// SPDX-License-Identifier: Apache-2.0
//! A Rust product that takes firmware updates. It samples for a while every ten seconds; meanwhile it takes no update and
//! is not reset.
#![no_std]

use bledfu_firmware as _;
use bledfu_zephyr::{app, worker, ZephyrError};
use core::sync::atomic::{AtomicBool, Ordering};
use zephyr::time::{sleep, Duration};

/// The events of `bledfu/bledfu.h`. `repr(C)` makes the enums as wide as C has them.
mod bledfu {
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(dead_code)] // C makes them
    pub enum Event {
        Ready,
        Failed,
        Started,
        Progress,
        Staged,
        Refused,
        Resetting,
        Confirmed,
    }

    #[repr(C)]
    pub struct EventInfo {
        pub event: Event,
        pub values: [u32; 2],
    }

    #[repr(C)]
    pub enum Answer {
        GoOn,
        Veto,
    }

    #[repr(C)]
    pub struct Callback {
        pub handler: extern "C" fn(&EventInfo) -> Answer,
    }
}

static SAMPLING: AtomicBool = AtomicBool::new(false);
static RESET_DUE: AtomicBool = AtomicBool::new(false);

extern "C" fn on_update(info: &bledfu::EventInfo) -> bledfu::Answer {
    let busy = SAMPLING.load(Ordering::SeqCst);
    log::info!(
        "{:?} {:?}{}",
        info.event,
        info.values,
        if busy { ", busy" } else { "" }
    );
    match info.event {
        bledfu::Event::Started if busy => bledfu::Answer::Veto,
        bledfu::Event::Resetting => {
            // From here on no sampling begins; one that runs ends first, and rust_main resets.
            RESET_DUE.store(true, Ordering::SeqCst);
            if SAMPLING.load(Ordering::SeqCst) {
                bledfu::Answer::Veto
            } else {
                bledfu::Answer::GoOn
            }
        }
        _ => bledfu::Answer::GoOn,
    }
}

/// What `BLEDFU_CALLBACK_DEFINE` is in C.
#[used]
#[link_section = "._bledfu_callback.static.rust_product_"]
static ON_UPDATE: bledfu::Callback = bledfu::Callback { handler: on_update };

fn start() -> Result<(), ZephyrError> {
    app::enable_bluetooth()?;
    app::advertise()?;
    // The self-test of this product: Bluetooth is up.
    app::confirm()
}

#[no_mangle]
extern "C" fn rust_main() {
    bledfu_zephyr::log::init(3);
    log::info!("Rust on {}", zephyr::kconfig::CONFIG_BOARD);
    if let Err(error) = start() {
        // Not confirmed: if this image is an update, the next reset takes it back.
        log::error!("not confirmed: {error}");
        return;
    }
    loop {
        sleep(Duration::millis_at_least(8000));
        // First the claim, then the look: on_update does it the other way round, so one of the two sees the other.
        SAMPLING.store(true, Ordering::SeqCst);
        if !RESET_DUE.load(Ordering::SeqCst) {
            log::info!("sampling");
            sleep(Duration::millis_at_least(2000));
        }
        SAMPLING.store(false, Ordering::SeqCst);
        if RESET_DUE.load(Ordering::SeqCst) {
            log::info!("reset to install the update");
            worker::reset();
        }
    }
}
