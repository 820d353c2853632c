// SPDX-License-Identifier: Apache-2.0
//! How fast a Bluetooth LE link carries writes: air time of a packet, packets in a connection event.
//!
//! One exchange on a 2M link, unencrypted: data, 150 µs, an empty packet (or a notification), 150 µs.
//! Air time of `n` payload bytes: (2 preamble + 4 address + 2 header + n + 3 CRC) × 8 / 2 Mbit/s.

/// Largest link layer payload in bytes, with data length extension.
const LL_PAYLOAD: usize = 251;
/// L2CAP header, ATT op code and handle in front of a written value, in bytes.
const WRITE_OVERHEAD: usize = 4 + 3;
const T_IFS_NS: u64 = 150_000;

/// The parameters that the two ends have negotiated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkParams {
    /// Time between connection events in µs: 7500 to 4,000,000.
    pub interval_us: u32,
    /// Maximum number of packets that the phone sends in one event.
    pub packets_per_event: u32,
    /// ATT MTU in bytes, 23 to 515; a write carries 3 bytes less.
    pub mtu: u16,
}

impl Default for LinkParams {
    /// A common phone: 15 ms, 10 packets per event (all that fit), MTU 247.
    fn default() -> Self {
        Self {
            interval_us: 15_000,
            packets_per_event: 10,
            mtu: 247,
        }
    }
}

impl LinkParams {
    /// Maximum number of bytes in a write.
    pub fn payload(&self) -> usize {
        usize::from(self.mtu) - 3
    }

    /// Number of link layer packets for a write of `bytes` bytes.
    pub fn fragments(bytes: usize) -> u32 {
        (bytes + WRITE_OVERHEAD).div_ceil(LL_PAYLOAD) as u32
    }

    /// Air time of one exchange with these many link layer bytes of the phone and of the device, in ns.
    pub fn exchange_ns(up: usize, down: usize) -> u64 {
        let air = |bytes: usize| (2 + 4 + 2 + bytes as u64 + 3) * 8 * 500;
        air(up) + T_IFS_NS + air(down) + T_IFS_NS
    }

    /// Link layer bytes of (a fragment of) a write or notification of `bytes` bytes.
    pub fn packet(bytes: usize) -> usize {
        (bytes + WRITE_OVERHEAD).min(LL_PAYLOAD)
    }

    /// The interval in ns.
    pub fn interval_ns(&self) -> u64 {
        u64::from(self.interval_us) * 1_000
    }

    /// Maximum number of full packets in an event.
    pub fn exchanges_per_event(&self) -> u32 {
        let fit = self.interval_ns() / Self::exchange_ns(LL_PAYLOAD, 0);
        self.packets_per_event.min(fit as u32).max(1)
    }

    /// Bytes per second when nothing but writes is sent.
    pub fn limit_bytes_per_s(&self) -> f64 {
        let writes = f64::from(self.exchanges_per_event()) / f64::from(Self::fragments(self.payload()));
        writes * self.payload() as f64 / (f64::from(self.interval_us) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_exchange_on_2m_takes_1392_microseconds() {
        assert_eq!(LinkParams::exchange_ns(251, 0), 1_392_000);
        assert_eq!(LinkParams::exchange_ns(LinkParams::packet(244), 0), 1_392_000);
    }

    #[test]
    fn an_event_has_as_many_packets_as_its_air_time_allows() {
        let fit = |interval_us| {
            LinkParams {
                interval_us,
                packets_per_event: 99,
                mtu: 247,
            }
            .exchanges_per_event()
        };
        assert_eq!([7_500, 11_250, 15_000, 30_000].map(fit), [5, 8, 10, 21]);
    }

    #[test]
    fn a_value_of_498_minus_3_bytes_fills_exactly_two_packets() {
        assert_eq!(LinkParams::fragments(495), 2);
        assert_eq!(LinkParams::fragments(514), 3);
        assert_eq!(LinkParams::fragments(244), 1);
    }
}
