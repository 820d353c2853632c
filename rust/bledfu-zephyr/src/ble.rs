// SPDX-License-Identifier: Apache-2.0
//! The peer at the other end of the Bluetooth link.

use crate::{abi, ZephyrError};

/// How often a notification is tried while no buffer is free. C waits up to 50 ms for one each time: together two
/// seconds, longer than any connection interval of a phone and shorter than its timeout.
const TRIES: u32 = 40;

const CONTROL: u8 = 0;
const SMP: u8 = 2;

/// Notifies the peer on the control point; retries while no buffer is free.
///
/// # Errors
/// [`ZephyrError::NotConnected`] without a subscribed peer, [`ZephyrError::NoBuffer`] after two seconds.
pub fn notify(bytes: &[u8]) -> Result<(), ZephyrError> {
    notify_on(CONTROL, bytes)
}

/// Sends one SMP frame, in as few notifications as the MTU allows.
///
/// # Errors
/// Those of [`notify`], for each notification.
pub fn notify_smp(frame: &[u8]) -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    let payload = unsafe { abi::bledfu_shim_payload() } as usize;
    if payload == 0 {
        return Err(ZephyrError::NotConnected);
    }
    frame
        .chunks(payload)
        .try_for_each(|fragment| notify_on(SMP, fragment))
}

/// Hands one SMP frame to Zephyr's MCUmgr.
///
/// # Errors
/// [`ZephyrError::NoBuffer`]: its buffers are in use, it may take the same frame later. [`ZephyrError::TooLong`]: the frame does not
/// fit one of them.
pub fn forward_smp(frame: &[u8]) -> Result<(), ZephyrError> {
    let length = u32::try_from(frame.len()).map_err(|_| ZephyrError::TooLong)?;
    // SAFETY: C reads `length` bytes and copies them before it returns.
    ZephyrError::check(unsafe { abi::bledfu_shim_smp_forward(frame.as_ptr(), length) })
}

/// Sends the next answer to a frame of [`forward_smp`]. `None`: there is none.
pub fn notify_smp_forwarded() -> Option<Result<(), ZephyrError>> {
    let mut bytes = core::ptr::null();
    // SAFETY: C writes one pointer to the local.
    let length = unsafe { abi::bledfu_shim_smp_answer(&mut bytes) };
    if bytes.is_null() || length == 0 {
        return None;
    }
    // SAFETY: C passes `length` bytes that live until the next call of `bledfu_shim_smp_answer`, which is in this
    // function only, on the worker thread only.
    Some(notify_smp(unsafe {
        core::slice::from_raw_parts(bytes, length as usize)
    }))
}

#[inline(never)]
fn notify_on(channel: u8, bytes: &[u8]) -> Result<(), ZephyrError> {
    let length = u32::try_from(bytes.len()).map_err(|_| ZephyrError::NoBuffer)?;
    for _ in 1..TRIES {
        // SAFETY: C reads `length` bytes and copies them before it returns.
        match ZephyrError::check(unsafe { abi::bledfu_shim_notify(channel, bytes.as_ptr(), length) }) {
            Err(ZephyrError::NoBuffer) => {}
            other => return other,
        }
    }
    Err(ZephyrError::NoBuffer)
}

/// Waits until the link layer has sent everything that was notified.
///
/// # Errors
/// [`ZephyrError::TimedOut`].
pub fn delivered(timeout_ms: u32) -> Result<(), ZephyrError> {
    // SAFETY: integers only.
    ZephyrError::check(unsafe { abi::bledfu_shim_delivered(timeout_ms) })
}

/// Closes the link to the peer, if there is one.
pub fn disconnect() {
    // SAFETY: no arguments; without a peer C does nothing.
    unsafe { abi::bledfu_shim_disconnect() }
}

/// A transfer begins: asks for a short connection interval, long packets and the fast radio mode.
pub fn hurry() {
    // SAFETY: no arguments; without a peer C does nothing.
    unsafe { abi::bledfu_shim_hurry() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn a_notification_is_retried_until_a_buffer_is_free() {
        let device = fake::device();
        device.refuse_notifications(3, abi::NO_BUFFER);
        assert_eq!(notify(&[0x60, 3, 1]), Ok(()));
        assert_eq!(device.notified(), [[0x60, 3, 1]]);
        assert_eq!(device.uptime_ms(), 3 * fake::BUFFER_MS);
    }

    #[test]
    fn an_smp_frame_is_cut_into_notifications_of_the_mtu() {
        let device = fake::device();
        let frame: std::vec::Vec<u8> = (0..250).map(|byte| byte as u8).collect();
        assert_eq!(notify_smp(&frame), Ok(()));
        let sent = device.notified();
        assert_eq!(
            sent.iter().map(std::vec::Vec::len).collect::<std::vec::Vec<_>>(),
            [100, 100, 50]
        );
        assert_eq!(sent.concat(), frame);
    }

    #[test]
    fn a_foreign_frame_goes_to_mcumgr_and_its_answer_comes_back_in_fragments() {
        let device = fake::device();
        assert_eq!(notify_smp_forwarded(), None);
        let frame: std::vec::Vec<u8> = (0..150).map(|byte| byte as u8).collect();
        assert_eq!(forward_smp(&frame), Ok(()));
        assert_eq!(notify_smp_forwarded(), Some(Ok(())));
        assert_eq!(device.notified().concat(), frame, "the fake's MCUmgr echoes");
        assert_eq!(device.notified().len(), 2);
        assert_eq!(notify_smp_forwarded(), None);
        assert_eq!(forward_smp(&[0; 600]), Err(ZephyrError::TooLong));
        for _ in 0..fake::MCUMGR_BUFFERS {
            assert_eq!(forward_smp(&frame), Ok(()));
        }
        assert_eq!(forward_smp(&frame), Err(ZephyrError::NoBuffer));
        assert_eq!(notify_smp_forwarded(), Some(Ok(())));
        assert_eq!(forward_smp(&frame), Ok(()), "its answer has left");
    }

    #[test]
    fn a_notification_fails_after_two_seconds_without_a_buffer() {
        let device = fake::device();
        device.refuse_notifications(u32::MAX, abi::NO_BUFFER);
        assert_eq!(notify(&[1]), Err(ZephyrError::NoBuffer));
        assert!(device.uptime_ms() <= 2000);
    }

    #[test]
    fn a_notification_without_a_peer_fails_at_once() {
        let device = fake::device();
        device.refuse_notifications(1, abi::NOT_CONNECTED);
        assert_eq!(notify(&[1]), Err(ZephyrError::NotConnected));
        assert_eq!(device.uptime_ms(), 0);
    }
}
