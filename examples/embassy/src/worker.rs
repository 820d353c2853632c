// SPDX-License-Identifier: Apache-2.0
//! Performs the steps of [`bledfu_transfer::service`]; it has no rule of its own.

use crate::device::{Device, SMP_FRAME_SIZE};
use crate::handover::{Door, Handover, Order};
use bledfu_slot::areas::Areas;
use bledfu_slot::verify::SoftCrypto;
use bledfu_transfer::service::{Service, Step};
use embassy_futures::yield_now;
use embassy_time::{Duration, Instant};
use heapless::Vec;

/// How long an order may wait for room: longer, and the peer takes no notifications.
const ROOM: Duration = Duration::from_secs(5);

/// Runs the update service of a device, for ever. Flash calls block: run it at a lower priority than [`ble::run`](crate::ble::run).
pub async fn run<A: Areas>(
    service: &mut Service<'_, A, SoftCrypto, SMP_FRAME_SIZE>,
    handover: &Handover,
    device: &mut impl Device,
) -> ! {
    service.start();
    loop {
        let now = Instant::now();
        let sent = match service.step(&mut Door(handover), now.as_millis()) {
            None => {
                // Other tasks of this priority wait for one step at most: the erase of a sector.
                yield_now().await;
                true
            }
            Some(Step::Send { channel, bytes }) => match Vec::from_slice(bytes) {
                Ok(bytes) => handover.leave(Order::Notify(channel, bytes), now + ROOM).await,
                Err(_) => false,
            },
            // Of a datagram, and no transport here has them.
            Some(Step::Answer { .. }) => true,
            Some(Step::Tell(event)) => {
                device.tell(event);
                true
            }
            Some(Step::Hurry) => {
                // A slow link is no reason to close it.
                handover.leave(Order::Hurry, now + ROOM).await;
                true
            }
            Some(Step::Deliver { until_ms }) => {
                if !handover.all_done(Instant::from_millis(until_ms)).await {
                    log::warn!("the last answer may not have arrived");
                }
                true
            }
            Some(Step::Wait { until_ms }) => {
                handover.work(at(until_ms)).await;
                true
            }
            Some(Step::Disconnect) => {
                handover.leave(Order::Disconnect, now + ROOM).await;
                true
            }
            Some(Step::Reset) => {
                device.reset();
                true
            }
        };
        if !sent {
            log::warn!("an answer was not delivered");
            service.not_sent();
        }
    }
}

/// A time of the service on the clock; the clock's end for one behind it.
fn at(ms: u64) -> Instant {
    Instant::try_from_millis(ms).unwrap_or(Instant::MAX)
}
