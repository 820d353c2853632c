// SPDX-License-Identifier: Apache-2.0
//! The device on an nRF52840 development kit: the image in internal flash, updates on the kit's QSPI flash (MX25R6435F). The
//! controller is behind a UART that speaks H4, such as a second kit with Zephyr's sample `hci_uart`; a product may take any other
//! that `bt-hci` has a transport for.
//!
//! ```text
//! UART   TX P1.02, RX P1.01, RTS P1.04, CTS P1.03, 1 Mbit/s with flow control
//! QSPI   SCK P0.19, CSN P0.17, IO P0.20 to P0.23
//! ```
#![no_std]
#![no_main]

use bledfu_example_embassy::device::{self, Device};
use bledfu_example_embassy::handover::Handover;
use bledfu_example_embassy::{ble, worker};
use bledfu_transfer::event::Event;
use bt_hci_serial::SerialTransport;
use core::cell::RefCell;
use embassy_executor::{InterruptExecutor, Spawner};
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::interrupt::{self, InterruptExt, Priority};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::qspi::{self, Qspi};
use embassy_nrf::{bind_interrupts, pac, peripherals, uarte};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::blocking_mutex::Mutex;
use panic_halt as _;
use static_cell::StaticCell;

/// Size of the external flash in bytes.
const EXTERNAL_SIZE: u32 = 8 * 1024 * 1024;
/// One packet of H4 as long as the host takes, and more while it is busy.
const UART_BUFFER: usize = 1024;

bind_interrupts!(struct Irqs {
    QSPI => qspi::InterruptHandler<peripherals::QSPI>;
    UARTE0 => buffered_uarte::InterruptHandler<peripherals::UARTE0>;
});

static HANDOVER: Handover = Handover::new();
/// Runs above the worker, in an interrupt that nothing else uses: the worker's flash calls block.
static BLUETOOTH: InterruptExecutor = InterruptExecutor::new();

#[pac::interrupt]
unsafe fn EGU1_SWI1() {
    // SAFETY: this is the interrupt that `BLUETOOTH` is started with, and nothing else calls this function.
    unsafe { BLUETOOTH.on_interrupt() }
}

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let mut config = embassy_nrf::config::Config::default();
    config.time_interrupt_priority = Priority::P2;
    let p = embassy_nrf::init(config);

    static BUFFERS: StaticCell<[[u8; UART_BUFFER]; 2]> = StaticCell::new();
    let [rx, tx] = BUFFERS.init([[0; UART_BUFFER]; 2]);
    let mut config = uarte::Config::default();
    config.baudrate = uarte::Baudrate::Baud1m;
    interrupt::UARTE0.set_priority(Priority::P3);
    let uart = BufferedUarte::new_with_rtscts(
        p.UARTE0,
        p.TIMER1,
        p.PPI_CH0,
        p.PPI_CH1,
        p.PPI_GROUP0,
        p.P1_01,
        p.P1_02,
        p.P1_03,
        p.P1_04,
        Irqs,
        config,
        rx,
        tx,
    );
    interrupt::EGU1_SWI1.set_priority(Priority::P6);
    let bluetooth = BLUETOOTH.start(interrupt::EGU1_SWI1);
    bluetooth.spawn(bluetooth_host(uart).expect("one task"));

    let mut config = qspi::Config::default();
    config.capacity = EXTERNAL_SIZE;
    config.read_opcode = qspi::ReadOpcode::Read4io;
    config.write_opcode = qspi::WriteOpcode::Pp4io;
    let external = Qspi::new(
        p.QSPI, Irqs, p.P0_19, p.P0_17, p.P0_20, p.P0_21, p.P0_22, p.P0_23, config,
    );
    let external = Mutex::new(RefCell::new(external));
    let internal = Mutex::new(RefCell::new(Nvmc::new(p.NVMC)));
    let mut memory = device::Memory::new();
    let Ok(mut service) = device::updates(&internal, &external, &mut memory, true) else {
        panic!("the primary slot cannot be read");
    };
    // The self-test of this application is that it has come this far.
    HANDOVER.confirm();
    worker::run(&mut service, &HANDOVER, &mut Kit).await
}

#[embassy_executor::task]
async fn bluetooth_host(mut uart: BufferedUarte<'static>) {
    let (rx, tx) = uart.split_by_ref();
    let transport = SerialTransport::<NoopRawMutex, _, _>::new(rx, tx);
    if ble::run(transport, address(), &HANDOVER).await.is_err() {
        panic!("the controller does not answer");
    }
}

/// The static random address that the factory has put into the chip.
fn address() -> [u8; 6] {
    let (low, high) = (pac::FICR.deviceaddr(0).read(), pac::FICR.deviceaddr(1).read());
    let [a, b, c, d] = low.to_le_bytes();
    let [e, f, ..] = high.to_le_bytes();
    [a, b, c, d, e, f | 0xC0]
}

struct Kit;

impl Device for Kit {
    fn tell(&mut self, _: Event) {}

    fn reset(&mut self) {
        cortex_m::peripheral::SCB::sys_reset();
    }
}
