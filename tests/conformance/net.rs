//! Cases on listeners and connections.

use std::panic::{AssertUnwindSafe, catch_unwind};

use io::{Buffer, Event, ListenerId, Net, NetErrorKind, Segment, SendList, Slice};

use crate::arm::{
    Arm, Events, Found, Peer, buffer, ended, filled, glance, listen, one, pair, pair_at, pattern, pull, push,
    receive, silence, some, until,
};

pub(crate) fn a_listener_says_where_it_is_and_who_came<A: Arm>() {
    let mut arm = A::start(1, &[]);
    for wanted in ["127.0.0.1:0", "[::1]:0"] {
        let listener = ListenerId(u32::try_from(wanted.len()).unwrap());
        let address = arm.io(0).listen(listener, wanted.parse().unwrap()).unwrap();
        assert_ne!(address.port(), 0);
        let peer = arm.connect(address).unwrap();
        let Event::Accepted { listener: at, local, peer: from, .. } = one(&mut arm, 0) else { panic!() };
        assert_eq!((at, local, from), (listener, address, peer.address()));
    }
}

pub(crate) fn an_address_that_is_taken_or_foreign_is_refused<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let taken = arm.io(0).listen(ListenerId(8), address).unwrap_err();
    assert_eq!(taken.kind, NetErrorKind::AddressInUse);
    // RFC 5737: an address for documentation, never ours.
    let foreign = arm.io(0).listen(ListenerId(9), "192.0.2.1:4420".parse().unwrap()).unwrap_err();
    assert_eq!(foreign.kind, NetErrorKind::AddressNotAvailable);
}

pub(crate) fn unlisten_refuses_new_connections_and_keeps_old_ones<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let (connection, mut peer) = pair_at(&mut arm, address);
    arm.io(0).unlisten(ListenerId(7));
    silence(&mut arm, 0);
    assert!(arm.connect(address).is_none(), "somebody still listens");
    push(&mut arm, &mut peer, b"still here", &mut Vec::new());
    assert_eq!(receive(&mut arm, 0, connection, 10), b"still here");
    // The address can be had again at once: SO_REUSEADDR.
    assert_eq!(arm.io(0).listen(ListenerId(7), address), Ok(address));
}

pub(crate) fn bytes_arrive_whole_and_in_order<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    let bytes = pattern(200_000, 3);
    let mut events = Vec::new();
    let (mut sent, mut got) = (0, Vec::new());
    arm.io(0).receive(connection);
    while got.len() < bytes.len() {
        sent += peer.write(&bytes[sent..]);
        glance(&mut arm, 0, &mut events);
        for event in events.drain(..) {
            let Event::Received { result: Ok(Some(part)), .. } = event else { panic!("{event:?}") };
            got.extend_from_slice(&part);
            arm.io(0).receive(connection);
        }
    }
    assert_eq!(got, bytes);
}

pub(crate) fn receive_into_fills_its_range_alone<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    let mut buffer = filled(&mut arm, 0, 8192, 1);
    push(&mut arm, &mut peer, &pattern(5000, 2), &mut Vec::new());
    let mut start = 1000;
    while start < 6000 {
        arm.io(0).receive_into(connection, buffer, start, 6000);
        let Event::ReceivedInto { buffer: back, result, .. } = one(&mut arm, 0) else { panic!() };
        buffer = back;
        let count = result.unwrap();
        assert!((1..=6000 - start).contains(&count));
        start += count;
    }
    assert_eq!(buffer[..1000], pattern(8192, 1)[..1000]);
    assert_eq!(buffer[1000..6000], pattern(5000, 2));
    assert_eq!(buffer[6000..], pattern(8192, 1)[6000..]);
}

pub(crate) fn the_end_of_a_stream_is_told_in_order<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    push(&mut arm, &mut peer, b"last words", &mut Vec::new());
    peer.finish();
    assert_eq!(receive(&mut arm, 0, connection, 10), b"last words");
    arm.io(0).receive(connection);
    let Event::Received { result: Ok(None), .. } = one(&mut arm, 0) else { panic!("not the end") };
    let buffer = buffer(&mut arm, 0, 100);
    arm.io(0).receive_into(connection, buffer, 0, 100);
    let Event::ReceivedInto { result: Ok(0), .. } = one(&mut arm, 0) else { panic!("not the end") };
    // The other direction is still open.
    let mut list = SendList::new();
    list.push_header(b"farewell");
    arm.io(0).send(connection, list);
    assert_eq!(pull(&mut arm, &mut peer, 8, &mut Vec::new()), b"farewell");
}

pub(crate) fn a_send_sends_every_kind_of_segment_in_order<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    let mut list = SendList::new();
    list.push_header(b"head");
    list.segments.push(Segment::Owned { buffer: filled(&mut arm, 0, 10_000, 1), start: 100, len: 9000 });
    list.segments.push(Segment::Zeroes { len: 70_001 });
    list.push_header(b"tail");
    let shared = Slice::whole(filled(&mut arm, 0, 5000, 2).share());
    list.segments.push(Segment::Shared(shared.slice(1..4000)));
    list.segments.push(Segment::Shared(shared));
    let mut expected = b"head".to_vec();
    expected.extend_from_slice(&pattern(10_000, 1)[100..9100]);
    expected.resize(expected.len() + 70_001, 0);
    expected.extend_from_slice(b"tail");
    expected.extend_from_slice(&pattern(5000, 2)[1..4000]);
    expected.extend_from_slice(&pattern(5000, 2));
    assert_eq!(list.len_bytes(), expected.len());
    arm.io(0).send(connection, list);
    let mut events = Vec::new();
    let got = pull(&mut arm, &mut peer, expected.len(), &mut events);
    assert!(got == expected, "the bytes differ");
    if events.is_empty() {
        events = some(&mut arm, 0, 1);
    }
    let Some(Event::Sent { connection: on, list, result: Ok(()) }) = events.pop() else { panic!() };
    assert_eq!(on, connection);
    assert_eq!((list.segments.len(), &list.headers[..]), (6, &b"headtail"[..]));
    assert!(events.is_empty());
}

pub(crate) fn a_send_longer_than_the_transports_buffers_ends_when_all_is_taken<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    // More than socket buffers may grow to on either side.
    let parts = 64;
    let mut list = SendList::new();
    list.push_header(b"begin");
    for _ in 0..parts {
        list.segments.push(Segment::Zeroes { len: 1 << 20 });
    }
    list.push_header(b"end");
    let total = list.len_bytes();
    arm.io(0).send(connection, list);
    silence(&mut arm, 0);
    let mut events = Vec::new();
    let got = pull(&mut arm, &mut peer, total, &mut events);
    assert_eq!((&got[..5], &got[total - 3..]), (&b"begin"[..], &b"end"[..]));
    assert!(got[5..total - 3].iter().all(|byte| *byte == 0));
    if events.is_empty() {
        events = some(&mut arm, 0, 1);
    }
    assert!(matches!(events[..], [Event::Sent { result: Ok(()), .. }]));
}

pub(crate) fn a_second_receive_or_send_panics<A: Arm>() {
    for send in [false, true] {
        let mut arm = A::start(1, &[]);
        let (connection, _peer) = pair(&mut arm);
        let twice = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..2 {
                if send {
                    let mut list = SendList::new();
                    list.push_header(b"x");
                    arm.io(0).send(connection, list);
                } else {
                    arm.io(0).receive(connection);
                }
            }
        }));
        assert!(twice.is_err());
    }
}

pub(crate) fn a_released_connection_keeps_its_bytes_for_the_reactor_that_adopts_it<A: Arm>() {
    let mut arm = A::start(2, &[]);
    let (connection, mut peer) = pair(&mut arm);
    push(&mut arm, &mut peer, b"for zero", &mut Vec::new());
    assert_eq!(receive(&mut arm, 0, connection, 8), b"for zero");
    push(&mut arm, &mut peer, b"for one", &mut Vec::new());
    silence(&mut arm, 0);
    let socket = arm.io(0).release(connection);
    let moved = arm.io(1).adopt(socket).unwrap();
    assert_eq!(receive(&mut arm, 1, moved, 7), b"for one");
    let mut list = SendList::new();
    list.push_header(b"thanks");
    arm.io(1).send(moved, list);
    assert!(matches!(one(&mut arm, 1), Event::Sent { result: Ok(()), .. }));
    assert_eq!(pull(&mut arm, &mut peer, 6, &mut Vec::new()), b"thanks");
}

pub(crate) fn a_socket_that_is_dropped_is_closed<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let mut peer = arm.connect(address).unwrap();
    drop(one(&mut arm, 0));
    assert_eq!(ended(&mut arm, &mut peer, &mut Vec::new()), Found::End);
    let (connection, mut peer) = pair_at(&mut arm, address);
    drop(arm.io(0).release(connection));
    assert_eq!(ended(&mut arm, &mut peer, &mut Vec::new()), Found::End);
}

pub(crate) fn close_cancels_what_is_under_way_and_says_so_last<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, mut peer) = pair(&mut arm);
    arm.io(0).receive(connection);
    let mut list = SendList::new();
    for _ in 0..64 {
        list.segments.push(Segment::Zeroes { len: 1 << 20 });
    }
    arm.io(0).send(connection, list);
    silence(&mut arm, 0);
    arm.io(0).close(connection);
    let closed = |events: &Events<A>| events.iter().any(|event| matches!(event, Event::Closed { .. }));
    let events = until(&mut arm, 0, closed);
    let [first, second, Event::Closed { connection: gone }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*gone, connection);
    let (mut receives, mut sends) = (0, 0);
    for event in [first, second] {
        match event {
            Event::Received { result, .. } => {
                assert_eq!(result.as_ref().unwrap_err().kind, NetErrorKind::Cancelled);
                receives += 1;
            }
            Event::Sent { result, .. } => {
                assert_eq!(result.unwrap_err().kind, NetErrorKind::Cancelled);
                sends += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((receives, sends), (1, 1));
    ended(&mut arm, &mut peer, &mut Vec::new());
    silence(&mut arm, 0);
}

pub(crate) fn close_gives_back_the_buffer_of_a_receive_into<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, _peer) = pair(&mut arm);
    let buffer = filled(&mut arm, 0, 4096, 1);
    arm.io(0).receive_into(connection, buffer, 0, 4096);
    silence(&mut arm, 0);
    arm.io(0).close(connection);
    let events = some(&mut arm, 0, 2);
    let [Event::ReceivedInto { buffer, result: Err(error), .. }, Event::Closed { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((buffer.len(), error.kind), (4096, NetErrorKind::Cancelled));
}

pub(crate) fn close_of_a_quiet_connection_ends_the_peers_stream<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let mut numbers = Vec::new();
    for _ in 0..5 {
        let (connection, mut peer) = pair_at(&mut arm, address);
        let mut list = SendList::new();
        list.push_header(b"bye");
        arm.io(0).send(connection, list);
        assert!(matches!(one(&mut arm, 0), Event::Sent { result: Ok(()), .. }));
        arm.io(0).close(connection);
        let mut events = Vec::new();
        assert_eq!(pull(&mut arm, &mut peer, 3, &mut events), b"bye");
        assert_eq!(ended(&mut arm, &mut peer, &mut events), Found::End);
        if events.is_empty() {
            events = some(&mut arm, 0, 1);
        }
        assert!(matches!(events[..], [Event::Closed { connection: gone }] if gone == connection));
        numbers.push(connection);
    }
    assert!(numbers.len() == 5);
}

pub(crate) fn a_reset_by_the_peer_breaks_receives_and_sends<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let (connection, peer) = pair(&mut arm);
    arm.io(0).receive(connection);
    silence(&mut arm, 0);
    peer.reset();
    let Event::Received { result: Err(error), .. } = one(&mut arm, 0) else { panic!("not an error") };
    assert_eq!(error.kind, NetErrorKind::Broken);
    let mut list = SendList::new();
    list.push_header(b"anyone?");
    arm.io(0).send(connection, list);
    let Event::Sent { result: Err(error), list, .. } = one(&mut arm, 0) else { panic!("not an error") };
    assert_eq!((error.kind, list.len_bytes()), (NetErrorKind::Broken, 7));
    arm.io(0).close(connection);
    assert!(matches!(one(&mut arm, 0), Event::Closed { .. }));
}

pub(crate) fn receives_that_wait_hold_no_memory<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let mut pairs: Vec<_> = (0..300).map(|_| pair_at(&mut arm, address)).collect();
    for (connection, _) in &pairs {
        arm.io(0).receive(*connection);
    }
    silence(&mut arm, 0);
    for round in 0..2 {
        for (number, (connection, peer)) in pairs.iter_mut().enumerate() {
            push(&mut arm, peer, &[u8::try_from(number % 251).unwrap(); 3], &mut Vec::new());
            let Event::Received { connection: on, result } = one(&mut arm, 0) else { panic!() };
            assert_eq!(on, *connection);
            let mut bytes = result.unwrap().unwrap().to_vec();
            if bytes.len() < 3 {
                bytes.extend(receive(&mut arm, 0, on, 3 - bytes.len()));
            }
            assert!(bytes.iter().all(|byte| usize::from(*byte) == number % 251), "round {round}");
            arm.io(0).receive(on);
        }
    }
}

pub(crate) fn a_burst_of_connections_is_accepted<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let address = listen(&mut arm);
    let peers: Vec<_> = (0..256).map(|_| arm.connect(address).expect("the backlog holds 1024")).collect();
    let mut found: Vec<_> = some(&mut arm, 0, 256)
        .into_iter()
        .map(|event| match event {
            Event::Accepted { peer, .. } => peer,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected: Vec<_> = peers.iter().map(Peer::address).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
