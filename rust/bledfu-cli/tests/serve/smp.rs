// SPDX-License-Identifier: Apache-2.0
//! SMP over UDP, over a console, and over the Bluetooth door.

use std::net::UdpSocket;
use std::time::Duration;

use bledfu_wire::image_group;
use bledfu_wire::secure_dfu::op;
use bledfu_wire::smp::{self, Failure};
use bledfu_wire::smp_answer::Answer;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::common::vector;
use crate::port::Port;
use crate::server::{Server, PATIENCE};

const ECHO: &[u8] = b"\x0a\x00\x00\x06\x00\x00\x42\x00\xa1adbhi";
const ECHOED: &[u8] = b"\x0b\x00\x00\x06\x00\x00\x42\x00\xa1arbhi";

/// A device with a door for SMP over UDP, and a client's socket.
pub fn udp() -> (Server, UdpSocket) {
    let server = Server::new(&["--smp-udp", "127.0.0.1:0", "--no-confirm"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address("smp-udp")).unwrap();
    (server, socket)
}

/// The next datagram; `None` if none arrives in time.
fn datagram(socket: &UdpSocket, patience: Duration) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).ok()?;
    Some(bytes[..length].to_vec())
}

// smp cases 6-9
#[test]
fn each_smp_frame_of_a_datagram_is_answered_up_to_the_first_protocol_error() {
    let (_server, socket) = udp();
    let ask = |bytes: &[u8], answers: &[&[u8]]| {
        socket.send(bytes).unwrap();
        for answer in answers {
            assert_eq!(
                datagram(&socket, PATIENCE).as_deref(),
                Some(*answer),
                "{bytes:02x?}"
            );
        }
        // The echo comes back next: no other answer was sent.
        socket.send(ECHO).unwrap();
        assert_eq!(
            datagram(&socket, PATIENCE).as_deref(),
            Some(ECHOED),
            "{bytes:02x?}"
        );
    };
    let with_sequence = |frame: &[u8], sequence| [&frame[..6], &[sequence], &frame[7..]].concat();
    let (one, two) = (with_sequence(ECHO, 1), with_sequence(ECHO, 2));
    let answers = [with_sequence(ECHOED, 1), with_sequence(ECHOED, 2)];
    ask(&[one.clone(), two.clone()].concat(), &[&answers[0], &answers[1]]);
    // A group that does not exist: the second frame is ignored.
    let unknown = b"\x08\x00\x00\x01\x00\x09\x07\x00\xa0";
    let refused: &[u8] = b"\x09\x00\x00\x05\x00\x09\x07\x00\xa1brc\x08";
    ask(&[unknown, two.as_slice()].concat(), &[refused]);
    // Fewer bytes than a header, alone and after a frame.
    for length in 0..8 {
        ask(&ECHO[..length], &[]);
    }
    ask(&[one.as_slice(), &two[..5]].concat(), &[&answers[0]]);
    // Fewer bytes than the header says, and more than a frame may have.
    let corrupt: &[u8] = b"\x0b\x00\x00\x05\x00\x00\x42\x00\xa1brc\x09";
    ask(&ECHO[..12], &[corrupt]);
    let long = [&[0x0A, 0, 0x0B, 0xB8, 0, 0, 0x42, 0][..], &[0xA0; 3000]].concat();
    ask(&long, &[corrupt]);
}

#[test]
fn smp_over_udp_answers_a_reset_request_and_works_again_after_the_reset() {
    let (mut server, socket) = udp();
    socket.send(b"\x0a\x00\x00\x01\x00\x00\x09\x05\xa0").unwrap();
    let answer = datagram(&socket, PATIENCE).unwrap();
    assert_eq!(
        answer, b"\x0b\x00\x00\x01\x00\x00\x09\x05\xa0",
        "before the reset"
    );
    assert_eq!(
        server.line("resetting"),
        "resetting",
        "there is nothing to install"
    );
    server.line("running 1.0.0 (confirmed)");
    socket.send(ECHO).unwrap();
    assert_eq!(datagram(&socket, PATIENCE).as_deref(), Some(ECHOED));
}

/// Sends the first piece of an upload of `image`; returns the refusal, if there is one.
fn first_piece(socket: &UdpSocket, image: &[u8]) -> Option<Failure> {
    let piece = image_group::Upload {
        offset: Some(0),
        length: Some(image.len() as u64),
        data: &image[..600],
        ..Default::default()
    };
    let request = smp::Request::Image(image_group::Request::Upload(piece));
    let mut frame = [0; 1024];
    let length = smp::encode_request(smp::Version::V2, 7, &request, &mut frame).unwrap();
    socket.send(&frame[..length]).unwrap();
    let answer = datagram(socket, PATIENCE).unwrap();
    let error = Answer::decode(&answer).unwrap().error?;
    Some(error.known().expect("an error of the image group"))
}

#[test]
fn a_device_with_a_linked_image_refuses_one_linked_elsewhere_before_and_after_a_restart() {
    let file = |name| vector(&format!("vectored/{name}.signed.bin"));
    let image = |name| std::fs::read(file(name)).unwrap();
    let mut options = vec![
        "--smp-udp".to_owned(),
        "127.0.0.1:0".to_owned(),
        "--primary".to_owned(),
        file("application-1.0.0").display().to_string(),
    ];
    let mut server = Server::in_folder(tempfile::tempdir().unwrap(), options.clone());
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    for is_restarted in [false, true] {
        if is_restarted {
            // Without --primary: the image in the folder counts.
            options.truncate(2);
            server.options = options.clone();
            server.restart();
        }
        let socket = socket();
        socket.connect(server.address("smp-udp")).unwrap();
        assert_eq!(
            first_piece(&socket, &image("network-core-2.0.0")),
            Some(Failure::Image(image_group::Error::InvalidImageVectorTable)),
            "restarted: {is_restarted}"
        );
        let good = image("application-2.0.0");
        assert_eq!(first_piece(&socket, &good), None, "restarted: {is_restarted}");
    }
}

/// Whether a byte can be read within this many seconds.
fn has_input(fd: &rustix::fd::OwnedFd, seconds: i64) -> bool {
    let mut wait = [PollFd::new(fd, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut wait, Some(&patience)) == Ok(1)
}

#[test]
fn an_smp_console_answers_among_other_text_and_outlives_its_clients() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smp");
    let _server = Server::new(&["--smp-pty", path.to_str().unwrap()]);
    for _ in 0..2 {
        let port = Server::terminal(&path);
        let mut answer = Vec::new();
        // Bytes may be lost while one client closes the terminal and another opens it. SMP clients repeat their request.
        for _ in 0..5 {
            port.send(b"some text\n\x06\x09ABAKAAAGAABCAKFhZGJoaZsK\nmore text\n")
                .unwrap();
            while answer.last() != Some(&b'\n') && has_input(&port.fd, 1) {
                let mut byte = [0];
                assert_eq!(rustix::io::read(&port.fd, &mut byte), Ok(1));
                answer.push(byte[0]);
            }
            if !answer.is_empty() {
                break;
            }
        }
        assert_eq!(answer, b"\x06\x09ABALAAAGAABCAKFhcmJoadxV\n");
    }
}

/// Sends an SMP frame through the Bluetooth door, in fragments of 20 bytes; returns the answer.
fn over_bluetooth(port: &mut Port, frame: &[u8]) -> Vec<u8> {
    for fragment in frame.chunks(20) {
        port.write(3, fragment).unwrap();
    }
    let mut answer = Vec::new();
    loop {
        while port.received.len() < 3 {
            port.receive().unwrap();
        }
        let &[low, high, kind, ..] = port.received.as_slice() else {
            unreachable!()
        };
        let length = 3 + usize::from(u16::from_le_bytes([low, high]));
        while port.received.len() < length {
            port.receive().unwrap();
        }
        assert_eq!(kind, 0x83);
        assert!(length <= 3 + 20, "fragments fit the MTU");
        answer.extend(port.received.drain(..length).skip(3));
        let frame_length = answer
            .get(2..4)
            .map(|bytes| 8 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
        if frame_length == Some(answer.len()) {
            return answer;
        }
    }
}

#[test]
fn smp_is_fragmented_over_the_bluetooth_door() {
    let server = Server::new(&["--mtu", "23"]);
    let mut port = server.gatt();
    assert_eq!(over_bluetooth(&mut port, ECHO), ECHOED);
    let state = over_bluetooth(&mut port, b"\x08\x00\x00\x01\x00\x01\x07\x00\xa0");
    assert!(state.len() > 100, "a list of images in many notifications");
    // Secure DFU still works on the same link.
    assert_eq!(port.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}
