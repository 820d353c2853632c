// SPDX-License-Identifier: Apache-2.0
//! What the tests of both clients share.

use bledfu_client::{Action, UpdateClient};

/// The bytes of an image of this size.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (7 * i + i / 251 + 3) as u8).collect()
}

/// Whether the client ends when nothing answers any more. `connect` is what a new link does.
pub fn ends<C>(client: &mut C, mut now: u64, connect: impl Fn(&mut C, u64)) -> bool
where
    C: UpdateClient<Error: Copy>,
{
    for _ in 0..10_000 {
        match client.poll(now) {
            Action::Wait { until_ms } | Action::Pause { until_ms } => now = now.max(until_ms),
            Action::Disconnect => client.disconnected(now),
            Action::Connect { at_ms } => {
                now = now.max(at_ms);
                connect(client, now);
            }
            Action::Write { .. } => {}
            Action::Done | Action::Failed(_) => return true,
        }
    }
    false
}
