// SPDX-License-Identifier: Apache-2.0
//! `--ble`: Secure DFU and SMP over Bluetooth, on any [`Central`].
//!
//! ```text
//!  scan ─► connect ─► characteristics ─┬─ control point: Secure DFU at once
//!                                      ├─ buttonless:    enter the bootloader ─► scan (same address, or +1) ─► Secure DFU
//!                                      └─ SMP
//! ```

pub mod central;
#[cfg(feature = "hci")]
pub mod hci;
#[cfg(any(feature = "ble", target_os = "macos", windows))]
pub mod system;

use std::time::{Duration, Instant};

use anyhow::Result;
use bledfu_client::Characteristic;

use super::transport::{LinkError, Offer, SmpLimits, Transport};
use crate::update::Protocol;
use central::{
    Central, Seen, Uuid, BUTTONLESS, BUTTONLESS_BONDED, CONTROL_POINT, DFU_SERVICE, FIRMWARE_REVISION,
    PACKET, SMP,
};

/// How long a scan for a device takes at most; most advertise several times a second.
const SCAN: Duration = Duration::from_secs(6);
/// How long to scan for all devices.
const SCAN_ALL: Duration = Duration::from_secs(4);
/// How long a device may take to answer that it enters its bootloader: one that stores a bond writes flash before.
const ENTRY: Duration = Duration::from_secs(20);
/// How long it may take to close the link then.
const ENTRY_CLOSE: Duration = Duration::from_secs(3);
/// How long its bootloader may take to advertise.
const BOOTLOADER_SCAN: Duration = Duration::from_secs(15);
/// *Enter bootloader*, and the answer that it does.
const ENTER: [u8; 1] = [0x01];
const ENTERS: [u8; 3] = [0x20, 0x01, 0x01];
/// Longest frame of SMP: more than any device takes.
const SMP_FRAME: usize = 4096;
/// Bytes of a write that belong to its header.
const ATT_HEADER: usize = 3;

/// Opens the host that the options name: the computer's own, or one in this program in front of the controller `hci`.
///
/// # Errors
/// A sentence, also if this program was built without it.
pub fn host(hci: Option<&str>) -> Result<Box<dyn Central>> {
    match hci {
        #[cfg(feature = "hci")]
        Some(controller) => Ok(Box::new(hci::Hci::new(controller)?)),
        #[cfg(not(feature = "hci"))]
        Some(_) => Err(missing("--hci", "hci")),
        #[cfg(any(feature = "ble", target_os = "macos", windows))]
        None => Ok(Box::new(system::System::new()?)),
        #[cfg(not(any(feature = "ble", target_os = "macos", windows)))]
        None => Err(missing("--ble without --hci", "ble")),
    }
}

#[cfg(not(all(feature = "hci", any(feature = "ble", target_os = "macos", windows))))]
fn missing(option: &str, feature: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{option} is not part of this bledfu: build it with `cargo install bledfu-cli --features {feature}`"
    )
}

/// Which device is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The only one that offers updates.
    Any,
    /// By its address.
    Address(String),
    /// By the name that it advertises.
    Name(String),
}

impl Target {
    /// `NAME|ADDRESS`; nothing is any device.
    pub fn parse(text: &str) -> Self {
        let is_address = text.len() == 17
            && text.split(':').count() == 6
            && text
                .split(':')
                .all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok());
        match text {
            "" => Self::Any,
            address if is_address => Self::Address(address.to_uppercase()),
            name => Self::Name(name.to_owned()),
        }
    }

    /// Whether this is a device that is meant.
    pub fn matches(&self, seen: &Seen) -> bool {
        match self {
            Self::Any => seen.offers_updates(),
            Self::Address(address) => seen.address == *address,
            Self::Name(name) => seen.name.as_ref() == Some(name) || seen.address == *name,
        }
    }

    fn missing(&self, seen: &[Seen]) -> String {
        let what = match self {
            Self::Any => "no device that offers updates".to_owned(),
            Self::Address(address) => format!("no device with the address {address}"),
            Self::Name(name) => format!("no device named {name:?}"),
        };
        let others: Vec<String> = seen
            .iter()
            .filter(|seen| seen.name.is_some() || seen.offers_updates())
            .map(ToString::to_string)
            .collect();
        match others.as_slice() {
            [] => format!("{what} advertises"),
            others => format!("{what} advertises; seen: {}", others.join(", ")),
        }
    }
}

/// All devices that advertise, by address.
///
/// # Errors
/// [`LinkError`]
pub fn scan_all(central: &mut dyn Central) -> Result<Vec<Seen>, LinkError> {
    let mut all = central.scan(SCAN_ALL, &mut |_| false)?;
    all.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(all)
}

/// All devices that are meant.
///
/// # Errors
/// [`LinkError`]
pub fn find_all(central: &mut dyn Central, target: &Target) -> Result<Vec<Seen>, LinkError> {
    let mut seen = scan_all(central)?;
    seen.retain(|seen| target.matches(seen));
    Ok(seen)
}

/// The address one above, in its last byte only: that of Nordic's bootloader.
fn bootloader_address(address: &str) -> Option<String> {
    let (front, last) = address.rsplit_once(':')?;
    let last = u8::from_str_radix(last, 16).ok()?;
    Some(format!("{front}:{:02X}", last.wrapping_add(1)))
}

/// The transport.
pub struct Bluetooth {
    central: Box<dyn Central>,
    target: Target,
    /// Where the device was found.
    address: Option<String>,
    /// Where its bootloader was found.
    bootloader: Option<String>,
    characteristics: Vec<Uuid>,
    /// Whose notifications are received.
    source: Uuid,
}

impl Bluetooth {
    /// To the device that is meant.
    pub fn new(central: Box<dyn Central>, target: Target) -> Self {
        Self {
            central,
            target,
            address: None,
            bootloader: None,
            characteristics: Vec::new(),
            source: CONTROL_POINT,
        }
    }

    /// The host, for another device.
    pub fn into_central(self) -> Box<dyn Central> {
        self.central
    }

    fn has(&self, characteristic: Uuid) -> bool {
        self.characteristics.contains(&characteristic)
    }

    /// The characteristic that enters the bootloader.
    fn entry(&self) -> Option<Uuid> {
        [BUTTONLESS_BONDED, BUTTONLESS]
            .into_iter()
            .find(|entry| self.has(*entry))
    }

    fn find(&mut self) -> Result<Seen, LinkError> {
        let (target, address, bootloader) =
            (self.target.clone(), self.address.clone(), self.bootloader.clone());
        let is_known = |seen: &Seen| {
            Some(&seen.address) == address.as_ref() || Some(&seen.address) == bootloader.as_ref()
        };
        if self.target == Target::Any && address.is_none() {
            let found = find_all(&mut *self.central, &target)?;
            return match found.as_slice() {
                [one] => Ok(one.clone()),
                [] => Err(LinkError::NotFound(target.missing(&[]))),
                several => {
                    let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                    Err(LinkError::Unusable(format!(
                        "several devices offer updates: {}; name one with --ble, or take --all",
                        names.join(", ")
                    )))
                }
            };
        }
        // A name may change with the version, and an address with the mode.
        let is_meant = |seen: &Seen| is_known(seen) || (address.is_none() && target.matches(seen));
        let all = self.central.scan(SCAN, &mut |all| all.iter().any(is_meant))?;
        let found = all.iter().find(|seen| is_meant(seen)).or_else(|| {
            // A device with a new address each time has only its name.
            all.iter()
                .find(|seen| target != Target::Any && target.matches(seen))
        });
        found
            .cloned()
            .ok_or_else(|| LinkError::NotFound(target.missing(&all)))
    }

    /// Makes the application start its bootloader, and connects to that.
    fn enter_bootloader(&mut self, entry: Uuid) -> Result<(), LinkError> {
        self.central.subscribe(entry)?;
        self.central.write(entry, &ENTER, true)?;
        let until = Instant::now() + ENTRY;
        loop {
            match self
                .central
                .receive(until.saturating_duration_since(Instant::now()))
            {
                Ok(Some((from, answer))) if from == entry => match answer.as_slice() {
                    answer if answer == ENTERS => break,
                    [0x20, 0x01, 0x07] => {
                        return Err(LinkError::Unusable(
                            "the device enters its bootloader only for a computer that is paired with it"
                                .to_owned(),
                        ));
                    }
                    _ => {
                        return Err(LinkError::Unusable(format!(
                            "the device refuses to enter its bootloader ({answer:02x?})"
                        )));
                    }
                },
                Ok(Some(_)) if Instant::now() < until => {}
                Ok(_) => {
                    return Err(LinkError::Lost(
                        "no answer to the request to enter the bootloader".to_owned(),
                    ));
                }
                // Some reset before the answer is delivered.
                Err(LinkError::Lost(_)) => break,
                Err(error) => return Err(error),
            }
        }
        let until = Instant::now() + ENTRY_CLOSE;
        while let Ok(next) = self
            .central
            .receive(until.saturating_duration_since(Instant::now()))
        {
            if next.is_none() {
                break;
            }
        }
        self.central.disconnect();
        let until = Instant::now() + BOOTLOADER_SCAN;
        loop {
            let found = self.find_bootloader(until.saturating_duration_since(Instant::now()))?;
            self.characteristics = self.central.connect(&found.address)?;
            if self.has(CONTROL_POINT) {
                self.bootloader = Some(found.address);
                return Ok(());
            }
            // Still the application.
            self.central.disconnect();
            if Instant::now() >= until {
                return Err(LinkError::Lost("the bootloader did not start".to_owned()));
            }
        }
    }

    fn find_bootloader(&mut self, patience: Duration) -> Result<Seen, LinkError> {
        let same = self.address.clone();
        let next = same.as_deref().and_then(bootloader_address);
        let is_ours = |seen: &Seen| {
            let is_here = Some(&seen.address) == same.as_ref() || Some(&seen.address) == next.as_ref();
            // Where the system hides addresses, the only new one with this service is it.
            let is_hidden = next.is_none() && Some(&seen.address) != same.as_ref();
            seen.services.contains(&DFU_SERVICE) && (is_here || is_hidden)
        };
        let all = self.central.scan(patience, &mut |all| all.iter().any(is_ours))?;
        all.into_iter()
            .find(is_ours)
            .ok_or_else(|| LinkError::NotFound("the bootloader of the device does not advertise".to_owned()))
    }
}

impl Transport for Bluetooth {
    fn open(&mut self, _expected: Option<Protocol>) -> Result<Offer, LinkError> {
        self.central.disconnect();
        let seen = self.find()?;
        self.characteristics = self.central.connect(&seen.address)?;
        if Some(&seen.address) != self.bootloader.as_ref() {
            self.address = Some(seen.address.clone());
        }
        let (has_dfu, entry) = (self.has(CONTROL_POINT) && self.has(PACKET), self.entry());
        let mut protocols = Vec::new();
        if has_dfu || entry.is_some() {
            protocols.push(Protocol::SecureDfu);
        }
        if self.has(SMP) {
            protocols.push(Protocol::Smp);
        }
        if protocols.is_empty() {
            self.central.disconnect();
            return Err(LinkError::Unusable(format!(
                "{seen} offers neither Secure DFU nor SMP"
            )));
        }
        Ok(Offer {
            protocols,
            device: seen.to_string(),
            enters_bootloader: !has_dfu && entry.is_some(),
        })
    }

    fn choose(&mut self, protocol: Protocol) -> Result<usize, LinkError> {
        self.source = match protocol {
            Protocol::SecureDfu => CONTROL_POINT,
            Protocol::Smp => SMP,
        };
        if let (Protocol::SecureDfu, false, Some(entry)) = (protocol, self.has(CONTROL_POINT), self.entry()) {
            self.enter_bootloader(entry)?;
        }
        self.central.subscribe(self.source)?;
        Ok(self.central.mtu().saturating_sub(ATT_HEADER))
    }

    fn write(&mut self, to: Characteristic, bytes: &[u8]) -> Result<(), LinkError> {
        match to {
            Characteristic::ControlPoint => self.central.write(CONTROL_POINT, bytes, true),
            Characteristic::Packet => self.central.write(PACKET, bytes, false),
            Characteristic::Smp => self.central.write(SMP, bytes, false),
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, LinkError> {
        let until = Instant::now() + patience;
        loop {
            match self
                .central
                .receive(until.saturating_duration_since(Instant::now()))?
            {
                Some((from, bytes)) if from == self.source => return Ok(Some(bytes)),
                Some(_) if Instant::now() < until => {}
                _ => return Ok(None),
            }
        }
    }

    fn close(&mut self) {
        self.central.disconnect();
    }

    fn has_links(&self) -> bool {
        true
    }

    fn smp_limits(&self) -> SmpLimits {
        SmpLimits {
            frame_size: SMP_FRAME,
            window: 3,
            frame_margin: 0,
        }
    }

    fn told_version(&mut self) -> Option<String> {
        if !self.has(FIRMWARE_REVISION) {
            return None;
        }
        let value = self.central.read(FIRMWARE_REVISION).ok()?;
        Some(String::from_utf8_lossy(&value).trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests;
