// SPDX-License-Identifier: Apache-2.0
//! The transport on a host of the test.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::central::SMP_SERVICE;
use super::*;

const APPLICATION: &str = "C0:00:00:00:00:FF";
/// The answer that it does.
const ENTERS: [u8; 3] = [0x20, 0x01, 0x01];
const BOOTLOADER: &str = "C0:00:00:00:00:00";

/// A device with a bootloader of its own, as Nordic's SDK makes it, and what happened to it.
#[derive(Default)]
struct Air {
    /// What it answers to the request to enter the bootloader; nothing: it resets without an answer.
    answer: Option<Vec<u8>>,
    is_in_bootloader: bool,
    connected: Option<String>,
    received: VecDeque<(Uuid, Vec<u8>)>,
    log: Vec<String>,
    others: Vec<Seen>,
}

struct Fake(Arc<Mutex<Air>>);

impl Central for Fake {
    fn scan(
        &mut self,
        _: Duration,
        is_enough: &mut dyn FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, LinkError> {
        let air = self.0.lock().unwrap();
        let (address, name) = match air.is_in_bootloader {
            true => (BOOTLOADER, "DfuTarg"),
            false => (APPLICATION, "lamp"),
        };
        let mut all = air.others.clone();
        all.push(Seen {
            address: address.to_owned(),
            name: Some(name.to_owned()),
            services: vec![DFU_SERVICE],
            rssi: None,
        });
        is_enough(&all);
        Ok(all)
    }

    fn connect(&mut self, address: &str) -> Result<Vec<Uuid>, LinkError> {
        let mut air = self.0.lock().unwrap();
        air.log.push(format!("connect {address}"));
        air.connected = Some(address.to_owned());
        Ok(match address {
            BOOTLOADER => vec![CONTROL_POINT, PACKET],
            _ => vec![BUTTONLESS, FIRMWARE_REVISION],
        })
    }

    fn mtu(&self) -> usize {
        247
    }

    fn subscribe(&mut self, characteristic: Uuid) -> Result<(), LinkError> {
        self.0
            .lock()
            .unwrap()
            .log
            .push(format!("subscribe {characteristic:?}"));
        Ok(())
    }

    fn write(&mut self, to: Uuid, bytes: &[u8], with_response: bool) -> Result<(), LinkError> {
        let mut air = self.0.lock().unwrap();
        air.log.push(format!("write {to:?} {bytes:02x?} {with_response}"));
        if to == BUTTONLESS && bytes == ENTER {
            match air.answer.clone() {
                Some(answer) => {
                    air.is_in_bootloader = answer == ENTERS;
                    air.received.push_back((BUTTONLESS, answer));
                }
                None => {
                    air.is_in_bootloader = true;
                    air.connected = None;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, _: Uuid) -> Result<Vec<u8>, LinkError> {
        Ok(b"1.2.3\0".to_vec())
    }

    fn receive(&mut self, _: Duration) -> Result<Option<(Uuid, Vec<u8>)>, LinkError> {
        let mut air = self.0.lock().unwrap();
        match (air.received.pop_front(), &air.connected) {
            (Some(next), _) => Ok(Some(next)),
            (None, Some(_)) => Ok(None),
            (None, None) => Err(LinkError::Lost("it resets".to_owned())),
        }
    }

    fn disconnect(&mut self) {
        self.0.lock().unwrap().connected = None;
    }
}

fn transport(air: Air, target: &str) -> (Bluetooth, Arc<Mutex<Air>>) {
    let air = Arc::new(Mutex::new(air));
    let fake = Box::new(Fake(air.clone()));
    (Bluetooth::new(fake, Target::parse(target)), air)
}

#[test]
fn a_device_with_buttonless_entry_is_updated_in_its_bootloader_one_address_above() {
    for answer in [Some(ENTERS.to_vec()), None] {
        let (mut transport, air) = transport(
            Air {
                answer,
                ..Air::default()
            },
            "lamp",
        );
        let offer = transport.open(None).unwrap();
        assert_eq!(offer.protocols, [Protocol::SecureDfu]);
        assert!(offer.enters_bootloader);
        assert_eq!(transport.told_version().as_deref(), Some("1.2.3"));
        assert_eq!(transport.choose(Protocol::SecureDfu).unwrap(), 244);
        transport.write(Characteristic::ControlPoint, &[6, 1]).unwrap();
        transport.write(Characteristic::Packet, &[1, 2, 3]).unwrap();
        assert_eq!(
            air.lock().unwrap().log,
            [
                format!("connect {APPLICATION}"),
                format!("subscribe {BUTTONLESS:?}"),
                format!("write {BUTTONLESS:?} [01] true"),
                format!("connect {BOOTLOADER}"),
                format!("subscribe {CONTROL_POINT:?}"),
                format!("write {CONTROL_POINT:?} [06, 01] true"),
                format!("write {PACKET:?} [01, 02, 03] false"),
            ]
        );
        // The link is lost in the middle: the bootloader is still there, under another name.
        let offer = transport.open(Some(Protocol::SecureDfu)).unwrap();
        assert!(!offer.enters_bootloader);
        // After the update the application is back.
        air.lock().unwrap().is_in_bootloader = false;
        assert!(transport.open(None).unwrap().enters_bootloader);
    }
}

#[test]
fn a_refusal_to_enter_the_bootloader_is_final() {
    for (answer, said) in [
        (
            vec![0x20, 0x01, 0x07],
            "the device refuses to enter its bootloader: only a paired peer may ask for it",
        ),
        (
            vec![0x20, 0x01, 0x04],
            "the device refuses to enter its bootloader: it cannot now",
        ),
        (
            vec![0x20, 0x01, 0x03],
            "the device refuses to enter its bootloader ([20, 01, 03])",
        ),
    ] {
        let answer = Some(answer);
        let (mut transport, _) = transport(
            Air {
                answer,
                ..Air::default()
            },
            "",
        );
        transport.open(None).unwrap();
        let error = transport.choose(Protocol::SecureDfu).unwrap_err();
        assert_eq!(error.to_string(), said);
        assert!(!error.is_temporary());
    }
}

#[test]
fn of_several_devices_one_must_be_named() {
    let other = Seen {
        address: "C0:00:00:00:00:AA".to_owned(),
        services: vec![SMP_SERVICE],
        ..Seen::default()
    };
    let air = || Air {
        others: vec![other.clone()],
        ..Air::default()
    };
    let (mut any, _) = transport(air(), "");
    let error = any.open(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "several devices offer updates: C0:00:00:00:00:AA, lamp (C0:00:00:00:00:FF); name one with --ble, or take --all"
    );
    let (mut wrong, _) = transport(air(), "door");
    let error = wrong.open(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no device named \"door\" advertises; seen: C0:00:00:00:00:AA, lamp (C0:00:00:00:00:FF)"
    );
    assert!(error.is_temporary());
    let (mut right, _) = transport(air(), "c0:00:00:00:00:ff");
    assert_eq!(right.open(None).unwrap().device, "lamp (C0:00:00:00:00:FF)");
}

#[test]
fn an_address_is_told_from_a_name() {
    assert_eq!(Target::parse(""), Target::Any);
    assert_eq!(
        Target::parse("Nordic_Blinky"),
        Target::Name("Nordic_Blinky".to_owned())
    );
    assert_eq!(
        Target::parse("a0:b1:c2:d3:e4:f5"),
        Target::Address("A0:B1:C2:D3:E4:F5".to_owned())
    );
    assert_eq!(
        Target::parse("a0:b1:c2:d3:e4:g5"),
        Target::Name("a0:b1:c2:d3:e4:g5".to_owned())
    );
}
