// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a frame of SMP. What is understood is answered, in a buffer as long as the first byte says.
#![no_main]

use bledfu_wire::image_group::{self, ImageState, SlotInfo};
use bledfu_wire::os_group;
use bledfu_wire::smp::{self, decode, encode, Code, Failure, Header, Request, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&room, frame)) = bytes.split_first() else {
        return;
    };
    let Some(message) = decode(frame) else {
        assert!(frame.len() < smp::HEADER_SIZE);
        return;
    };
    let image = |version| ImageState {
        slot: room & 1,
        version,
        hash: [room; 32],
        bootable: true,
        pending: false,
        confirmed: true,
        active: true,
        permanent: false,
    };
    let (images, slots);
    let response = match message.request {
        Err(code) => Response::Failed(Failure::Smp(code)),
        Ok(Request::Os(request)) => match request {
            os_group::Request::Echo(text) => Response::Os(os_group::Response::Echo(text)),
            os_group::Request::Reset { force, .. } => {
                assert!(!force || frame.len() > smp::HEADER_SIZE, "no payload, no force");
                Response::Empty
            }
            os_group::Request::Parameters => Response::Os(os_group::Response::Parameters {
                buf_size: u32::from(room) << 8,
                buf_count: u32::from(room),
            }),
            os_group::Request::Info { format } => Response::Os(os_group::Response::Info(format)),
            os_group::Request::BootloaderInfo { query: Some(_) } => {
                Response::Failed(Failure::Os(os_group::Error::QueryYieldsNoAnswer))
            }
            os_group::Request::BootloaderInfo { query: None } => Response::Os(os_group::Response::Mode {
                mode: room as i8,
                no_downgrade: room & 1 == 1,
            }),
        },
        Ok(Request::Image(request)) => match request {
            image_group::Request::ReadState => {
                images = [image("1.2.3"), image("255.255.65535.4294967295")];
                Response::Image(image_group::Response::State(&images))
            }
            image_group::Request::WriteState { hash, confirm } => match hash {
                Some(hash) if hash.len() != 32 => {
                    Response::Failed(Failure::Image(image_group::Error::InvalidHash))
                }
                None if !confirm => Response::Failed(Failure::Image(image_group::Error::InvalidHash)),
                _ => Response::Empty,
            },
            image_group::Request::Upload(upload) => {
                assert!(upload.data.len() < frame.len());
                Response::Image(image_group::Response::Upload {
                    offset: upload.offset.unwrap_or_default() as u32,
                    matches: upload.sha.map(|sha| sha.len() == 32),
                })
            }
            image_group::Request::Erase { slot } => match slot {
                None | Some(1) => Response::Empty,
                Some(_) => Response::Failed(Failure::Image(image_group::Error::InvalidSlot)),
            },
            image_group::Request::SlotInfo => {
                slots = [0, 1].map(|slot| SlotInfo {
                    slot,
                    size: u32::from(room) << 12,
                    upload_image_id: (slot == 1).then_some(1),
                });
                let max_image_size = u32::from(room) << 11;
                Response::Image(image_group::Response::SlotInfo {
                    slots: &slots,
                    max_image_size,
                })
            }
        },
    };
    let mut out = vec![0; usize::from(room) * 4];
    let length = encode(&message.context, &response, &mut out);
    if length == 0 {
        assert!(out.len() < smp::MIN_ANSWER);
        return;
    }
    // An answer is a whole frame, whose bytes are a header and a map; read as a request it is refused.
    let header = Header::decode(&out).expect("an answer has a header");
    assert_eq!(header.frame_length(), length);
    assert_eq!(header.sequence, message.context.sequence);
    assert_eq!(out[smp::HEADER_SIZE] >> 5, 5, "a map");
    let echo = decode(&out[..length]).expect("long enough");
    assert_eq!(echo.request, Err(Code::NotSupported));
});
