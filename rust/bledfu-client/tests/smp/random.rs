// SPDX-License-Identifier: Apache-2.0
//! Losses and answers that nobody thought of.

use crate::common::{ends, pattern};
use crate::link::{applications, client, run};
use crate::server::{Server, NEW};
use bledfu_client::smp::{Error, Settings};
use bledfu_client::{Action, UpdateClient};
use bledfu_wire::smp::Header;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_upload_completes_whatever_gets_lost(
        lost in prop::collection::btree_set(1..60_usize, 0..6),
        unanswered in prop::collection::btree_set(1..60_usize, 0..6),
        breaks_at in prop::collection::btree_set(1..60_usize, 0..3),
        forgets in any::<bool>(),
        window in 1..9_u8,
        which in 0..3_usize,
        payload in prop_oneof![Just(20_usize), 60..600_usize],
        size in 0..9_000_usize,
    ) {
        let settings = applications()[which];
        let settings = Settings { window: if which == 2 { 1 } else { window }, ..settings };
        let image = pattern(size);
        let mut server = Server::new();
        server.lost = lost.into_iter().collect();
        server.unanswered = unanswered.into_iter().collect();
        server.breaks_at = breaks_at.into_iter().collect();
        server.forgets = forgets;
        // The user starts again as often as necessary: each fault happens once.
        for _ in 0..16 {
            match run(&mut server, settings, &image, payload).end {
                Ok(()) => {
                    prop_assert!(server.held == image);
                    prop_assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
                    return Ok(());
                }
                Err(Error::Silent(_) | Error::LinkLost | Error::LinkStaysOpen | Error::OddAnswer(_) | Error::FrameTooSmall) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        prop_assert!(false, "it never completes: {:?}", server.log);
    }

    #[test]
    fn the_client_terminates_whatever_the_server_answers(
        events in prop::collection::vec((0..6_u8, prop::collection::vec(any::<u8>(), 0..40), any::<u32>()), 0..200),
        which in 0..3_usize,
        size in 0..3_000_usize,
    ) {
        let settings = applications()[which];
        let (image, mut buffers) = (pattern(size), ([0; 300], [0; 300]));
        let mut client = client(&image, settings, &mut buffers);
        let mut now = 0_u64;
        let mut server = Server::new();
        let mut frame = Vec::new();
        for (event, bytes, number) in events {
            if let Action::Write { bytes, .. } = client.poll(now) {
                frame.extend(bytes);
            }
            match event {
                0 if number % 4 == 0 => client.connected(now, number as usize % 600),
                1 if number % 8 == 0 => client.disconnected(now),
                2 => client.received(now, &bytes),
                3 => now += u64::from(number % 100_000),
                _ => {
                    // A valid answer, sometimes cut or damaged.
                    let whole = Header::decode(&frame).is_some_and(|header| header.frame_length() == frame.len());
                    if whole {
                        if let Some((mut answer, _)) = server.request(&std::mem::take(&mut frame), now) {
                            if number % 5 == 0 {
                                let at = number as usize / 5 % answer.len();
                                answer[at] ^= bytes.first().copied().unwrap_or(0);
                            }
                            client.received(now, &answer);
                        }
                    }
                }
            }
        }
        prop_assert!(ends(&mut client, now, |client, now| client.connected(now, 20)));
    }
}
