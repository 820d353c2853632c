// SPDX-License-Identifier: Apache-2.0
//! The pieces of an upload: how long, how many at a time, and what follows a loss.

use crate::common::pattern;
use crate::link::{applications, client, first_piece, gap, pieces, run, update};
use crate::server::{Server, BUF_SIZE};
use bledfu_client::smp::{Error, Settings, MAX_WINDOW};
use bledfu_client::{Action, UpdateClient};
use bledfu_wire::image_group;
use bledfu_wire::smp::{encode, Context, Failure, Header, Response};

#[test]
fn frames_are_as_long_as_the_server_accepts_and_cut_into_writes() {
    for (settings, longest) in [
        (Settings::android(), BUF_SIZE as usize),
        (Settings::smpclient(), BUF_SIZE as usize),
        (Settings::ios(), BUF_SIZE as usize - 5),
    ] {
        let mut server = Server::new();
        assert_eq!(run(&mut server, settings, &pattern(6_000), 20).end, Ok(()));
        let most = server.frames.iter().max().copied().unwrap();
        assert!(most <= longest && most > longest - 4, "{most} of {longest}");
    }
}

#[test]
fn no_more_pieces_are_in_flight_than_the_window_allows() {
    for window in [1, 3, 8, MAX_WINDOW as u8] {
        for settings in [Settings::android(), Settings::ios()] {
            let settings = Settings { window, ..settings };
            let mut server = Server::new();
            let outcome = run(&mut server, settings, &pattern(60_000), 244);
            assert_eq!(outcome.end, Ok(()));
            assert_eq!(outcome.most_under_way, usize::from(window), "{settings:?}");
        }
    }
}

#[test]
fn android_repeats_a_piece_after_two_and_a_half_seconds_with_another_sequence_number() {
    let settings = Settings {
        window: 1,
        ..Settings::android()
    };
    let at = first_piece(settings) + 3;
    let mut server = Server::new();
    server.lost = vec![at];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(gap(&server, at, at + 1), 2_500);
    assert_eq!(server.log[at], server.log[at + 1]);
    assert_ne!(server.sequences[at - 1], server.sequences[at]);
    assert!(server.held == pattern(6_000));
}

#[test]
fn android_waits_20_s_for_the_last_piece_of_a_window() {
    let settings = Settings::android();
    let mut server = Server::new();
    update(&mut server, settings);
    let at = first_piece(settings) + pieces(&server).len() - 1;
    for (settings, patience) in [
        (settings, 20_000),
        (
            Settings {
                window: 1,
                ..settings
            },
            2_500,
        ),
    ] {
        let mut server = Server::new();
        server.lost = vec![at];
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(gap(&server, at, at + 1), patience);
    }
}

#[test]
fn android_gives_up_at_the_fifth_failure_of_one_piece() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    server.lost = (at + 2..at + 20).collect();
    let end = update(&mut server, Settings::android()).end;
    assert_eq!(end, Err(Error::Silent("a piece of the image")));
    let mut server = Server::new();
    let failure = Failure::Image(image_group::Error::InvalidImageTooLarge);
    server.refused = (at..at + 20).map(|at| (at, failure)).collect();
    let refused = Error::Refused {
        request: "the first piece of the image",
        error: failure.into(),
    };
    assert_eq!(update(&mut server, Settings::android()).end, Err(refused));
    assert_eq!(pieces(&server), ["piece 0 len sha"; 5]);
    // The other pieces tolerate the first refusal.
    for settings in [Settings::ios(), Settings::smpclient()] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.refused = vec![(at, failure)];
        assert_eq!(update(&mut server, settings).end, Err(refused));
        assert_eq!(pieces(&server).len(), 1);
    }
}

#[test]
fn android_resends_from_the_byte_that_an_answer_names() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    // The second piece of a window of three.
    server.lost = vec![at + 2];
    let outcome = update(&mut server, Settings::android());
    assert_eq!(outcome.end, Ok(()));
    assert!(server.held == pattern(6_000));
    // The third was answered with the offset of the second: no waiting for a timeout.
    assert!(outcome.now < 10_000, "{} ms", outcome.now);
}

#[test]
fn android_continues_after_a_lost_link_without_length_and_sha() {
    for settings in [
        Settings::android(),
        Settings {
            window: 1,
            ..Settings::android()
        },
    ] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.breaks_at = vec![at + 4];
        let outcome = update(&mut server, settings);
        assert_eq!(outcome.end, Ok(()));
        assert!(server.held == pattern(6_000));
        let back = 1 + server.log.iter().skip(1).position(|line| line == "-").unwrap();
        assert_eq!(server.log[back + 1], "Parameters", "its transport asks first");
        let piece = &server.log[back + 2];
        assert!(piece.starts_with("piece ") && !piece.contains("len"), "{piece}");
        assert_eq!(
            pieces(&server).iter().filter(|line| line.contains("sha")).count(),
            1
        );
        assert!(
            outcome.progress.resumed_at > 1_500,
            "{}",
            outcome.progress.resumed_at
        );
    }
}

#[test]
fn a_forgotten_upload_restarts_with_length_and_sha() {
    let at = first_piece(Settings::android());
    let mut server = Server::new();
    server.breaks_at = vec![at + 4];
    server.forgets = true;
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    assert_eq!(
        pieces(&server)
            .iter()
            .filter(|line| **line == "piece 0 len sha")
            .count(),
        2
    );
    assert!(server.held == pattern(6_000));
}

#[test]
fn the_other_clients_leave_a_lost_link_to_the_user() {
    for settings in [Settings::ios(), Settings::smpclient()] {
        let at = first_piece(settings);
        let mut server = Server::new();
        server.breaks_at = vec![at + 4];
        assert_eq!(update(&mut server, settings).end, Err(Error::LinkLost));
        // Restarted, they continue where the server is.
        let outcome = update(&mut server, settings);
        assert_eq!(outcome.end, Ok(()));
        assert!(outcome.progress.resumed_at > 1_500);
        assert!(server.held == pattern(6_000));
    }
}

#[test]
fn ios_repeats_a_piece_after_10_s_and_10_s_more_with_the_same_sequence_number() {
    let settings = Settings {
        window: 1,
        ..Settings::ios()
    };
    let at = first_piece(settings) + 2;
    let mut server = Server::new();
    server.lost = vec![at, at + 1];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(
        (gap(&server, at, at + 1), gap(&server, at + 1, at + 2)),
        (20_000, 20_000)
    );
    assert_eq!(server.sequences[at - 1], server.sequences[at + 1]);
    let mut server = Server::new();
    server.lost = vec![at, at + 1, at + 2];
    let end = update(&mut server, settings).end;
    assert_eq!(end, Err(Error::Silent("a piece of the image")));
    // It does so with every request.
    let mut server = Server::new();
    let list = first_piece(settings) - 1;
    server.lost = vec![list];
    assert_eq!(update(&mut server, settings).end, Ok(()));
    assert_eq!(gap(&server, list, list + 1), 50_000);
}

#[test]
fn ios_waits_for_all_answers_before_it_rewinds() {
    let settings = Settings::ios();
    let at = first_piece(settings);
    let mut server = Server::new();
    server.unanswered = vec![at + 2];
    server.lost = vec![at + 1];
    let outcome = update(&mut server, settings);
    assert_eq!(outcome.end, Ok(()));
    assert!(server.held == pattern(6_000));
    // Nothing is sent between the window with the loss and the repetition 20 s later.
    assert!(gap(&server, at + 3, at + 4) >= 19_000, "{:?}", server.times);
}

#[test]
fn smpclient_sends_one_piece_at_a_time_and_restarts_without_sha() {
    let settings = Settings::smpclient();
    let at = first_piece(settings);
    let mut server = Server::new();
    let outcome = update(&mut server, settings);
    assert_eq!((outcome.end, outcome.most_under_way), (Ok(()), 1));

    // The server forgets the upload halfway.
    let (image, mut buffers) = (pattern(6_000), ([0; 1024], [0; 1024]));
    let mut client = client(&image, settings, &mut buffers);
    client.connected(0, 600);
    let mut server = Server::new();
    for count in 1.. {
        if let Action::Write { bytes, .. } = client.poll(0) {
            let frame = bytes.to_vec();
            if count == at + 3 {
                server.length = None;
            }
            let (answer, _) = server.request(&frame, 0).unwrap();
            client.received(0, &answer);
        }
        if count == at + 4 {
            break;
        }
    }
    assert_eq!(server.log.last().map(String::as_str), Some("piece 0 len"));
}

#[test]
fn smpclient_fails_on_silence_and_on_a_late_answer() {
    let settings = Settings::smpclient();
    let at = first_piece(settings) + 2;
    let mut server = Server::new();
    server.lost = vec![at];
    let outcome = update(&mut server, settings);
    assert_eq!(outcome.end, Err(Error::Silent("a piece of the image")));
    assert!(outcome.now < 5_000);

    // An answer to another request than the one in flight.
    for (settings, expected) in [
        (Settings::smpclient(), Action::Disconnect),
        (Settings::ios(), Action::Wait { until_ms: 40_000 }),
    ] {
        let mut buffers = ([0; 1024], [0; 1024]);
        let mut client = client(&[], settings, &mut buffers);
        client.connected(0, 498);
        let Action::Write { bytes, .. } = client.poll(0) else {
            panic!("a request");
        };
        let asked = Header::decode(bytes).unwrap();
        let context = Context {
            sequence: asked.sequence.wrapping_add(9),
            ..Context::of(&asked)
        };
        let mut out = [0; 100];
        let length = encode(&context, &Response::Empty, &mut out);
        client.received(0, &out[..length]);
        assert_eq!(client.poll(0), expected);
    }
}

#[test]
fn a_server_without_progress_is_reported_as_stuck() {
    for settings in applications() {
        let mut server = Server::new();
        server.never_moves = true;
        assert_eq!(update(&mut server, settings).end, Err(Error::Stuck { offset: 0 }));
        assert!(pieces(&server).len() < 60);
    }
}

#[test]
fn a_wrong_digest_is_a_failure() {
    for settings in applications() {
        let mut server = Server::new();
        server.says_match = Some(false);
        assert_eq!(update(&mut server, settings).end, Err(Error::WrongDigest));
    }
}

#[test]
fn a_link_too_small_for_a_piece_has_its_own_error() {
    let (image, mut buffers) = (pattern(500), ([0; 60], [0; 600]));
    let mut client = client(&image, Settings::smpclient(), &mut buffers);
    client.connected(0, 20);
    let mut server = Server::new();
    let mut frame = Vec::new();
    for _ in 0..100 {
        match client.poll(0) {
            Action::Write { bytes, .. } => frame.extend(bytes),
            Action::Disconnect => client.disconnected(0),
            Action::Failed(error) => return assert_eq!(error, Error::FrameTooSmall),
            _ => {
                let (answer, _) = server.request(&std::mem::take(&mut frame), 0).unwrap();
                client.received(0, &answer);
            }
        }
    }
    panic!("it does not terminate");
}
