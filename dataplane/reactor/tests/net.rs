//! Real sockets through the ring: with every feature, without any, with each alone and each missing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use io::{Buffer, Event, ListenerId, Memory, Net, NetErrorKind, Purpose, Segment, SendList, Slice};
use reactor::{ArenaBuffer, DriveSet, Features, Reactor, ReactorConfig};
use support::{
    accept, bare, config, feature_sets, list_of, listen, pair, pattern, patterned, poll_for, single, until,
};

/// Every kind of segment, long and short, more than one operation takes.
fn mixed_list(reactor: &mut Reactor<u64>) -> (SendList<ArenaBuffer>, Vec<u8>) {
    let mut list = SendList::new();
    let mut bytes = Vec::new();
    for round in 0..700_u32 {
        let header = [round as u8; 24];
        list.push_header(&header);
        bytes.extend_from_slice(&header);
        match round % 350 {
            1 => {
                let buffer = patterned(reactor, 300_000, 1);
                bytes.extend_from_slice(&buffer[7..299_000]);
                list.segments.push(Segment::Owned { buffer, start: 7, len: 298_993 });
            }
            2 => {
                list.segments.push(Segment::Zeroes { len: 200_001 });
                bytes.resize(bytes.len() + 200_001, 0);
            }
            3 => {
                let shared = Slice::whole(patterned(reactor, 10_000, 2).share());
                for part in [0..4_000, 2_000..10_000] {
                    bytes.extend_from_slice(&shared[part.clone()]);
                    list.segments.push(Segment::Shared(shared.slice(part)));
                }
            }
            _ => {
                list.segments.push(Segment::Zeroes { len: 1 });
                bytes.push(0);
            }
        }
    }
    assert!(list.segments.len() > 1024);
    assert_eq!(list.len_bytes(), bytes.len());
    (list, bytes)
}

#[test]
fn a_gathered_send_arrives_whole_and_in_order_whatever_features_are_on() {
    for features in feature_sets() {
        let mut reactor = bare(features);
        let (mut theirs, ours) = pair(&mut reactor);
        let used = reactor.stats().arena_used_bytes_now;
        let (list, bytes) = mixed_list(&mut reactor);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; bytes.len()];
            theirs.read_exact(&mut got).unwrap();
            assert!(got == bytes);
        });
        reactor.send(ours, list);
        let mut list = until(&mut reactor, |_, event| match event {
            Event::Sent { connection, list, result } => {
                assert_eq!((connection, result), (ours, Ok(())));
                Some(list)
            }
            _ => None,
        });
        reader.join().unwrap();
        list.clear();
        assert_eq!(reactor.stats().arena_used_bytes_now, used);
    }
}

#[test]
fn bytes_arrive_in_order_by_both_kinds_of_receive_whatever_features_are_on() {
    for features in feature_sets() {
        println!("{features}");
        let mut reactor = bare(features);
        let address = listen(&mut reactor);
        let total = 3_000_000_usize;
        let writer = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let bytes: Vec<u8> = pattern(9).take(total).collect();
            // Pieces of many lengths.
            let mut rest = bytes.as_slice();
            for len in (1..).map(|step| step * step % 50_021 + 1) {
                let (piece, left) = rest.split_at(len.min(rest.len()));
                stream.write_all(piece).unwrap();
                rest = left;
                if rest.is_empty() {
                    return;
                }
            }
        });
        let ours = accept(&mut reactor);
        let mut expected = pattern(9);
        let mut left = total;
        reactor.receive(ours);
        let ended = until(&mut reactor, |reactor, event| match event {
            Event::Received { connection, result } => {
                assert_eq!(connection, ours);
                let Some(buffer) = result.unwrap() else { return Some(left) };
                assert!(buffer.iter().all(|byte| Some(*byte) == expected.next()));
                left -= buffer.len();
                let room = reactor.allocate(100_000, Purpose::Data).unwrap();
                reactor.receive_into(ours, room, 10, 90_000);
                None
            }
            Event::ReceivedInto { buffer, result, .. } => {
                let len = result.unwrap();
                assert!(len <= 90_000 - 10);
                if len == 0 {
                    return Some(left);
                }
                assert!(buffer[10..10 + len].iter().all(|byte| Some(*byte) == expected.next()));
                left -= len;
                reactor.receive(ours);
                None
            }
            _ => None,
        });
        assert_eq!(ended, 0);
        writer.join().unwrap();
    }
}

/// A host that keeps 32 requests of 72 bytes going and reads an answer of 4120 bytes to each.
fn keep_asking(stream: &mut TcpStream, requests: usize) {
    const DEPTH: usize = 32;
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(&[1; 72 * DEPTH]).unwrap();
    let mut piece = vec![0; 256 << 10];
    let (mut asked, mut got) = (DEPTH, 0);
    while got < requests * 4120 {
        let answered = got / 4120;
        got += stream.read(&mut piece).expect("the reactor answers");
        let again = (got / 4120 - answered).min(requests - asked);
        stream.write_all(&vec![1; 72 * again]).unwrap();
        asked += again;
    }
}

#[test]
fn dense_traffic_never_stalls_whatever_features_are_on() {
    for features in feature_sets() {
        println!("{features}");
        let mut reactor = bare(features);
        let (mut theirs, ours) = pair(&mut reactor);
        let requests = 8_000;
        let host = std::thread::spawn(move || keep_asking(&mut theirs, requests));
        let (mut received, mut answered) = (0, 0);
        let mut idle = Some(SendList::new());
        reactor.receive(ours);
        until(&mut reactor, |reactor, event| {
            match event {
                Event::Received { result, .. } => {
                    received += result.unwrap().map_or(0, |bytes| bytes.len());
                    if received < requests * 72 {
                        reactor.receive(ours);
                    }
                }
                Event::Sent { mut list, result, .. } => {
                    assert_eq!(result, Ok(()));
                    list.clear();
                    idle = Some(list);
                }
                other => panic!("{other:?}"),
            }
            if received / 72 > answered
                && let Some(mut list) = idle.take()
            {
                for _ in answered..received / 72 {
                    list.push_header(&[2; 24]);
                    list.segments.push(Segment::Zeroes { len: 4096 });
                }
                answered = received / 72;
                reactor.send(ours, list);
            }
            (answered == requests && idle.is_some()).then_some(())
        });
        host.join().unwrap();
    }
}

#[test]
fn close_ends_what_is_under_way_and_then_the_connection_whatever_features_are_on() {
    for features in feature_sets() {
        println!("{features}");
        let mut reactor = bare(features);
        let (mut theirs, ours) = pair(&mut reactor);
        let (_, idle) = pair(&mut reactor);
        reactor.receive(ours);
        // More than the socket takes, so that it stays under way.
        let mut list = SendList::new();
        list.segments.push(Segment::Zeroes { len: 64 << 20 });
        reactor.send(ours, list);
        assert!(poll_for(&mut reactor, Duration::from_millis(20)).is_empty());
        reactor.close(ours);
        reactor.close(idle);
        let mut seen = Vec::new();
        until(&mut reactor, |_, event| {
            match event {
                Event::Received { connection, result } => {
                    assert_eq!(connection, ours);
                    assert_eq!(result.unwrap_err().kind, NetErrorKind::Cancelled);
                    seen.push("received");
                }
                Event::Sent { connection, result, .. } => {
                    assert_eq!(connection, ours);
                    assert_eq!(result.unwrap_err().kind, NetErrorKind::Cancelled);
                    seen.push("sent");
                }
                Event::Closed { connection } if connection == idle => seen.push("idle closed"),
                Event::Closed { connection } => {
                    assert_eq!(connection, ours);
                    assert!(seen.contains(&"received"));
                    assert!(seen.contains(&"sent"));
                    seen.push("closed");
                }
                other => panic!("{other:?}"),
            }
            (seen.len() == 4).then_some(())
        });
        assert_eq!(reactor.stats().connections_now, 0);
        // The peer sees the end.
        std::io::copy(&mut theirs, &mut std::io::sink()).ok();
    }
}

#[test]
fn a_receive_into_is_cancelled_with_its_buffer() {
    let mut reactor = bare(Features::all());
    let (_theirs, ours) = pair(&mut reactor);
    let buffer = reactor.allocate(5000, Purpose::Data).unwrap();
    reactor.receive_into(ours, buffer, 0, 5000);
    reactor.close(ours);
    let buffer = until(&mut reactor, |_, event| match event {
        Event::ReceivedInto { buffer, result, .. } => {
            assert_eq!(result.unwrap_err().kind, NetErrorKind::Cancelled);
            Some(buffer)
        }
        _ => None,
    });
    assert_eq!(buffer.len(), 5000);
}

#[test]
fn a_thousand_connects_and_drops_leave_nothing_behind() {
    for features in [Features::all(), Features::none()] {
        let mut reactor = bare(features);
        let address = listen(&mut reactor);
        let used = reactor.stats().arena_used_bytes_now;
        let hosts = std::thread::spawn(move || {
            for round in 0..1000 {
                let mut stream = TcpStream::connect(address).unwrap();
                if round % 3 == 0 {
                    stream.write_all(b"hello").unwrap();
                }
            }
        });
        let mut closed = 0;
        until(&mut reactor, |reactor, event| {
            match event {
                Event::Accepted { listener, socket, local, peer } => {
                    assert_eq!((listener, local), (ListenerId(7), address));
                    assert!(peer.ip().is_loopback());
                    let connection = reactor.adopt(socket).unwrap();
                    reactor.receive(connection);
                }
                Event::Received { connection, result: Ok(Some(bytes)) } => {
                    assert_eq!(*bytes, *b"hello");
                    reactor.receive(connection);
                }
                Event::Received { connection, .. } => reactor.close(connection),
                Event::Closed { .. } => closed += 1,
                other => panic!("{other:?}"),
            }
            (closed == 1000).then_some(())
        });
        hosts.join().unwrap();
        let stats = reactor.stats();
        assert_eq!((stats.accepted, stats.connections_now), (1000, 0));
        assert_eq!(stats.arena_used_bytes_now, used);
    }
}

#[test]
fn a_full_table_refuses_the_next_connection_and_takes_it_when_one_has_gone() {
    let config = ReactorConfig { connections_max: 2, ..config(Features::all(), DriveSet::none()) };
    let mut reactor = single(&config);
    let (_a, first) = pair(&mut reactor);
    let (_b, _second) = pair(&mut reactor);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut refused = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(reactor.adopt(listener.accept().unwrap().0.into()).is_none());
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    reactor.close(first);
    until(&mut reactor, |_, event| matches!(event, Event::Closed { .. }).then_some(()));
    let (_c, third) = pair(&mut reactor);
    assert_ne!(first, third, "numbers are not reused");
}

#[test]
fn a_slow_reader_holds_only_its_own_connection() {
    for features in [Features::all(), Features::none()] {
        let mut reactor = bare(features);
        let (mut slow, to_slow) = pair(&mut reactor);
        let (mut quick, to_quick) = pair(&mut reactor);
        let mut list = SendList::new();
        list.segments.push(Segment::Zeroes { len: 48 << 20 });
        reactor.send(to_slow, list);
        for round in 0..100_u8 {
            reactor.send(to_quick, list_of(&[round; 100]));
            until(&mut reactor, |_, event| match event {
                Event::Sent { connection, result, .. } => {
                    assert_eq!((connection, result), (to_quick, Ok(())));
                    Some(())
                }
                _ => None,
            });
            let mut got = [0; 100];
            quick.read_exact(&mut got).unwrap();
            assert_eq!(got, [round; 100]);
        }
        let reader = std::thread::spawn(move || {
            let mut left = 48 << 20;
            let mut piece = vec![1; 1 << 20];
            while left > 0 {
                let len = slow.read(&mut piece).unwrap();
                assert!(piece[..len].iter().all(|byte| *byte == 0));
                left -= len;
            }
        });
        until(&mut reactor, |_, event| match event {
            Event::Sent { connection, result, .. } => {
                assert_eq!((connection, result), (to_slow, Ok(())));
                Some(())
            }
            _ => None,
        });
        reader.join().unwrap();
    }
}

#[test]
fn receives_wait_while_every_buffer_is_taken_and_go_on_when_one_comes_back() {
    for features in [Features::all(), Features::none()] {
        let config = ReactorConfig {
            arena_bytes: 8 << 20,
            receive_bytes: 1 << 20,
            receive_buffers: 2,
            ..config(features, DriveSet::none())
        };
        let mut reactor = single(&config);
        let mut hogs = Vec::new();
        while let Some(buffer) = reactor.allocate(1 << 20, Purpose::Data) {
            hogs.push(buffer);
        }
        let mut streams = Vec::new();
        for number in 0..16_u8 {
            let (mut theirs, ours) = pair(&mut reactor);
            // Too much to be copied into a small buffer.
            theirs.write_all(&[number; 60_000]).unwrap();
            reactor.receive(ours);
            streams.push(theirs);
        }
        let mut held = Vec::new();
        let keep = |events: Vec<support::Happened<u64>>, held: &mut Vec<ArenaBuffer>| {
            for event in events {
                match event {
                    Event::Received { result, .. } => held.push(result.unwrap().unwrap()),
                    other => panic!("{other:?}"),
                }
            }
        };
        keep(poll_for(&mut reactor, Duration::from_millis(50)), &mut held);
        let before = held.len();
        assert!(before < 16, "the buffers of the test do not run out");
        assert!(reactor.stats().receive_waits > 0);
        // Dropped on another thread, which nothing announces to the reactor.
        let elsewhere = std::mem::take(&mut held);
        std::thread::spawn(move || drop(elsewhere)).join().unwrap();
        keep(poll_for(&mut reactor, Duration::from_millis(50)), &mut held);
        assert!(!held.is_empty());
        hogs.clear();
        let mut received = before + held.len();
        held.clear();
        while received < 16 {
            keep(poll_for(&mut reactor, Duration::from_millis(20)), &mut held);
            received += held.len();
            held.clear();
        }
    }
}

#[test]
fn a_poll_returns_soon_where_an_allocation_was_refused() {
    let mut reactor = bare(Features::all());
    let mut hogs = Vec::new();
    while let Some(buffer) = reactor.allocate(1 << 20, Purpose::Data) {
        hogs.push(buffer);
    }
    let other = std::thread::spawn(move || drop(hogs));
    let before = std::time::Instant::now();
    let mut events = Vec::new();
    while reactor.allocate(1 << 20, Purpose::Data).is_none() {
        // Without a deadline: only the refusal ends this.
        io::Io::poll(&mut reactor, None, &mut events).unwrap();
    }
    assert!(before.elapsed() < Duration::from_secs(5));
    other.join().unwrap();
}

#[test]
fn a_connection_moves_to_another_reactor_with_what_it_had_not_received() {
    for features in [Features::all(), Features::none()] {
        let mut first = bare(features);
        let mut second = bare(features);
        let (mut theirs, ours) = pair(&mut first);
        theirs.write_all(b"one").unwrap();
        first.receive(ours);
        let got = until(&mut first, |_, event| match event {
            Event::Received { result, .. } => Some(result.unwrap().unwrap()),
            _ => None,
        });
        assert_eq!(*got, *b"one");
        theirs.write_all(b"two").unwrap();
        let socket = first.release(ours);
        assert_eq!(first.stats().connections_now, 0);
        let ours = second.adopt(socket).unwrap();
        second.receive(ours);
        let got = until(&mut second, |_, event| match event {
            Event::Received { result, .. } => Some(result.unwrap().unwrap()),
            _ => None,
        });
        assert_eq!(*got, *b"two");
        second.send(ours, list_of(b"three"));
        let mut got = [0; 5];
        until(&mut second, |_, event| matches!(event, Event::Sent { .. }).then_some(()));
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(got, *b"three");
    }
}

#[test]
fn listening_says_why_not_and_stops_on_request() {
    let mut reactor = bare(Features::all());
    let address = listen(&mut reactor);
    let taken = reactor.listen(ListenerId(8), address).unwrap_err();
    assert_eq!(taken.kind, NetErrorKind::AddressInUse);
    let foreign = reactor.listen(ListenerId(8), "192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert_eq!(foreign.kind, NetErrorKind::AddressNotAvailable);
    if let Ok(v6) = reactor.listen(ListenerId(9), format!("[::1]:{}", address.port()).parse().unwrap()) {
        let _host = TcpStream::connect(v6).unwrap();
        let seen = until(&mut reactor, |_, event| match event {
            Event::Accepted { listener, local, .. } => Some((listener, local)),
            _ => None,
        });
        assert_eq!(seen, (ListenerId(9), v6));
    }
    let (mut theirs, ours) = pair(&mut reactor);
    reactor.unlisten(ListenerId(7));
    poll_for(&mut reactor, Duration::from_millis(20));
    assert!(TcpStream::connect(address).is_err());
    // Connections stay, and the address can be taken again.
    reactor.send(ours, list_of(b"still"));
    until(&mut reactor, |_, event| matches!(event, Event::Sent { result: Ok(()), .. }).then_some(()));
    let mut got = [0; 5];
    theirs.read_exact(&mut got).unwrap();
    assert_eq!(reactor.listen(ListenerId(7), address), Ok(address));
}

#[test]
fn a_peer_that_resets_is_an_error_and_one_that_ends_is_not() {
    let mut reactor = bare(Features::all());
    let (theirs, ours) = pair(&mut reactor);
    let (also_theirs, also_ours) = pair(&mut reactor);
    reactor.receive(ours);
    reactor.receive(also_ours);
    reactor.send(also_ours, list_of(b"unread"));
    until(&mut reactor, |_, event| matches!(event, Event::Sent { .. }).then_some(()));
    drop(theirs);
    // Closing with bytes unread resets.
    drop(also_theirs);
    let mut ends = 0;
    until(&mut reactor, |_, event| {
        if let Event::Received { connection, result } = event {
            if connection == ours {
                assert!(result.unwrap().is_none());
            } else {
                assert_eq!(result.unwrap_err().kind, NetErrorKind::Broken);
            }
            ends += 1;
        }
        (ends == 2).then_some(())
    });
}
