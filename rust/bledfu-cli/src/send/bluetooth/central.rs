// SPDX-License-Identifier: Apache-2.0
//! What `send` asks of a Bluetooth host, whichever it is: the computer's own, or one in this program in front of a controller.

use std::fmt;
use std::time::Duration;

use super::super::transport::LinkError;

/// A UUID; the short ones of the standard stand for numbers above the base UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

/// The base of the short UUIDs.
const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_5F9B_34FB;

impl Uuid {
    /// A short UUID.
    pub const fn short(number: u16) -> Self {
        Self(BASE | (number as u128) << 96)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The service of Secure DFU.
pub const DFU_SERVICE: Uuid = Uuid::short(0xFE59);
/// Its control point.
pub const CONTROL_POINT: Uuid = Uuid(0x8EC9_0001_F315_4F60_9FB8_8388_30DA_EA50);
/// Its packets.
pub const PACKET: Uuid = Uuid(0x8EC9_0002_F315_4F60_9FB8_8388_30DA_EA50);
/// Enters the bootloader, which has another address.
pub const BUTTONLESS: Uuid = Uuid(0x8EC9_0003_F315_4F60_9FB8_8388_30DA_EA50);
/// Enters the bootloader, which knows the bond and has the same address.
pub const BUTTONLESS_BONDED: Uuid = Uuid(0x8EC9_0004_F315_4F60_9FB8_8388_30DA_EA50);
/// The service of SMP.
pub const SMP_SERVICE: Uuid = Uuid(0x8D53_DC1D_1DB7_4CD3_868B_8A52_7460_AA84);
/// Its characteristic.
pub const SMP: Uuid = Uuid(0xDA2E_7828_FBCE_4E01_AE9E_2611_7499_7C48);
/// The firmware revision of the Device Information Service.
pub const FIRMWARE_REVISION: Uuid = Uuid::short(0x2A26);

/// A device that advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its address, in upper case with colons; where the system hides it (macOS), an identifier.
    pub address: String,
    /// Its name.
    pub name: Option<String>,
    /// Signal strength in dBm.
    pub rssi: Option<i16>,
    /// Services that it advertises.
    pub services: Vec<Uuid>,
}

impl Seen {
    /// Adds what another packet of the same device tells: the name is often in the answer to a scan request.
    pub fn merge(&mut self, other: Self) {
        self.name = other.name.or(self.name.take());
        self.rssi = other.rssi.or(self.rssi);
        for service in other.services {
            if !self.services.contains(&service) {
                self.services.push(service);
            }
        }
    }

    /// Whether it advertises a protocol of updates.
    pub fn offers_updates(&self) -> bool {
        self.services.contains(&DFU_SERVICE) || self.services.contains(&SMP_SERVICE)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// A Bluetooth host with at most one connection. Calls block, each with a limit.
pub trait Central {
    /// Scans, until `is_enough` of all that was seen so far, or for `patience`. Returns all that was seen.
    ///
    /// # Errors
    /// [`LinkError`]
    fn scan(
        &mut self,
        patience: Duration,
        is_enough: &mut dyn FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, LinkError>;

    /// Connects to a device that was seen, and returns its characteristics.
    ///
    /// # Errors
    /// [`LinkError`]
    fn connect(&mut self, address: &str) -> Result<Vec<Uuid>, LinkError>;

    /// The ATT MTU of the connection.
    fn mtu(&self) -> usize;

    /// Turns on notifications, or indications where there are no notifications.
    ///
    /// # Errors
    /// [`LinkError`]
    fn subscribe(&mut self, characteristic: Uuid) -> Result<(), LinkError>;

    /// Writes a value, with or without a response.
    ///
    /// # Errors
    /// [`LinkError`]
    fn write(&mut self, characteristic: Uuid, bytes: &[u8], with_response: bool) -> Result<(), LinkError>;

    /// Reads a value.
    ///
    /// # Errors
    /// [`LinkError`]
    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, LinkError>;

    /// The next notification or indication; `None` if none arrives within `patience`.
    ///
    /// # Errors
    /// [`LinkError::Lost`], once the connection is gone and everything before was returned.
    fn receive(&mut self, patience: Duration) -> Result<Option<(Uuid, Vec<u8>)>, LinkError>;

    /// Ends the connection, if there is one.
    fn disconnect(&mut self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_uuid_is_a_number_above_the_base() {
        assert_eq!(format!("{:?}", DFU_SERVICE), "0000fe5900001000800000805f9b34fb");
    }

    #[test]
    fn two_packets_of_a_device_are_one_sight() {
        let mut seen = Seen {
            address: "C0:00:00:00:00:01".to_owned(),
            services: vec![DFU_SERVICE],
            ..Seen::default()
        };
        assert!(seen.offers_updates());
        seen.merge(Seen {
            address: seen.address.clone(),
            name: Some("lamp".to_owned()),
            services: vec![DFU_SERVICE, SMP_SERVICE],
            rssi: Some(-40),
        });
        assert_eq!(seen.to_string(), "lamp (C0:00:00:00:00:01)");
        assert_eq!(seen.services, [DFU_SERVICE, SMP_SERVICE]);
    }
}
