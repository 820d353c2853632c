// SPDX-License-Identifier: Apache-2.0
//! Manages a device with the crate `mcumgr-smp`, over UDP.
//!
//! ```text
//! mcumgr-smp-client HOST:PORT echo TEXT
//!                             list                       one line per image: slot, version, hash, flags
//!                             upload FILE [CHUNK]        one line per answer: its offset
//!                             test HASH | confirm HASH   as list
//!                             reset
//! ```
//! The crate makes and reads the messages and carries them; the order of them is this program's, as the crate's documentation
//! shows it.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use mcumgr_smp::application_management::{
    get_state, set_state, GetImageStateResult, ImageWriter, WriteImageChunkResult,
};
use mcumgr_smp::os_management::{echo, reset, EchoResult, ResetResult};
use mcumgr_smp::transport::smp::CborSmpTransport;
use mcumgr_smp::transport::udp::UdpTransport;
use sha2::{Digest, Sha256};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK: usize = 1024;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn connect(address: &str) -> Outcome<CborSmpTransport> {
    let address: SocketAddr = address.parse()?;
    // The crate's socket is one of IPv6.
    let host = match address.ip() {
        IpAddr::V4(host) => host.to_ipv6_mapped(),
        IpAddr::V6(host) => host,
    };
    let mut transport = UdpTransport::new((host, address.port()))?;
    transport.recv_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(CborSmpTransport {
        transport: Box::new(transport),
    })
}

fn print_images(state: GetImageStateResult) -> Outcome<()> {
    match state {
        GetImageStateResult::Ok(state) => {
            for image in state.images {
                let hash: String = image
                    .hash
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let mut flags = Vec::new();
                for (name, set) in [
                    ("active", image.active),
                    ("confirmed", image.confirmed),
                    ("pending", image.pending),
                    ("permanent", image.permanent),
                ] {
                    if set {
                        flags.push(name);
                    }
                }
                println!(
                    "{} {} {hash} {}",
                    image.slot,
                    image.version,
                    flags.join(" ")
                );
            }
            Ok(())
        }
        GetImageStateResult::Err(error) => Err(format!("rc {}", error.rc).into()),
    }
}

fn upload(device: &mut CborSmpTransport, file: &str, chunk: usize) -> Outcome<()> {
    let image = std::fs::read(file)?;
    let sha: [u8; 32] = Sha256::digest(&image).into();
    let mut writer = ImageWriter::new(None, image.len(), Some(&sha), false);
    while writer.offset < image.len() {
        let end = (writer.offset + chunk).min(image.len());
        let frame = writer.write_chunk(&image[writer.offset..end]);
        let answer = device.transceive_cbor(&frame, true)?;
        let taken = match answer.data {
            WriteImageChunkResult::Ok(answer) if answer.match_ == Some(false) => {
                return Err("the device holds other bytes".into())
            }
            WriteImageChunkResult::Ok(answer) => answer.off as usize,
            WriteImageChunkResult::Err(error) => return Err(format!("rc {}", error.rc).into()),
        };
        println!("offset {taken}");
        writer.offset = taken;
    }
    Ok(())
}

fn run() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [address, command, parameters @ ..] = arguments.as_slice() else {
        return Err("usage: mcumgr-smp-client HOST:PORT COMMAND [PARAMETERS]".into());
    };
    let mut device = connect(address)?;
    let set = |device: &mut CborSmpTransport, hash: &str, confirm| {
        let hash: Result<Vec<u8>, _> = (0..hash.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hash[at..at + 2], 16))
            .collect();
        print_images(
            device
                .transceive_cbor(&set_state(hash?, confirm, 3), true)?
                .data,
        )
    };
    match (*command, parameters) {
        ("echo", [text]) => match device
            .transceive_cbor(&echo(1, (*text).to_owned()), true)?
            .data
        {
            EchoResult::Ok { r } => {
                println!("{r}");
                Ok(())
            }
            EchoResult::Err { rc } => Err(format!("rc {rc}").into()),
        },
        ("list", []) => print_images(device.transceive_cbor(&get_state(2), true)?.data),
        ("upload", [file]) => upload(&mut device, file, CHUNK),
        ("upload", [file, chunk]) => upload(&mut device, file, chunk.parse()?),
        ("test", [hash]) => set(&mut device, hash, false),
        ("confirm", [hash]) => set(&mut device, hash, true),
        ("reset", []) => match device.transceive_cbor(&reset(4, false), true)?.data {
            ResetResult::Ok {} => Ok(()),
            ResetResult::Err { rc } => Err(format!("rc {rc}").into()),
        },
        _ => Err("no such command, or other parameters than it takes".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
