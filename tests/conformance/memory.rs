//! Cases on buffers, arenas, polls and the clock.

use std::time::Duration;

use io::{Buffer, Clock, Io, Lasting, Memory, Purpose};

use crate::arm::{Arm, buffer, one, post};

pub(crate) fn buffers_have_the_length_asked_for_and_are_aligned<A: Arm>() {
    let mut arm = A::start(1, &[]);
    for len in [1, 511, 512, 4096, 4097, 128 * 1024, 1 << 20] {
        let buffer = buffer(&mut arm, 0, len);
        assert_eq!(buffer.len(), len);
        assert_eq!(buffer.as_ptr().align_offset(4096), 0, "{len}");
    }
}

pub(crate) fn an_arena_is_bounded_and_takes_back_what_is_dropped<A: Arm>() {
    let mut arm = A::start(1, &[]);
    for _ in 0..3 {
        let mut held = Vec::new();
        while let Some(buffer) = arm.io(0).allocate(1 << 20, Purpose::Data) {
            held.push(buffer);
            assert!(held.len() <= 64, "more than 64 MiB out of one arena");
        }
        assert!(held.len() >= 4, "{} MiB are too few to work with", held.len());
        held.pop();
        assert!(arm.io(0).allocate(1 << 20, Purpose::Data).is_some(), "what was dropped can be had again");
    }
}

pub(crate) fn buffers_go_home_from_any_thread<A: Arm>() {
    let mut arm = A::start(1, &[]);
    for _ in 0..3 {
        let mut held = Vec::new();
        while let Some(buffer) = arm.io(0).allocate(1 << 20, Purpose::Data) {
            held.push(buffer);
        }
        let (count, reactor) = (held.len(), std::thread::spawn(move || drop(held)));
        reactor.join().unwrap();
        let mut again = Vec::new();
        let mut events = Vec::new();
        // An arena may learn of it only at its next poll.
        let deadline = arm.io(0).now();
        arm.io(0).poll(Some(deadline), &mut events).unwrap();
        while let Some(buffer) = arm.io(0).allocate(1 << 20, Purpose::Data) {
            again.push(buffer);
        }
        assert_eq!(again.len(), count);
    }
}

pub(crate) fn shared_memory_goes_home_with_its_last_holder<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut held = Vec::new();
    while let Some(mut buffer) = arm.io(0).allocate(1 << 20, Purpose::Data) {
        buffer.fill(u8::try_from(held.len()).unwrap());
        held.push(buffer.share());
    }
    let last = held.pop().unwrap();
    let clone = last.clone();
    assert_eq!(clone.as_ptr(), last.as_ptr(), "a clone costs a count");
    drop(last);
    assert!(arm.io(0).allocate(1 << 20, Purpose::Data).is_none());
    assert_eq!(usize::from(clone[77]), held.len());
    drop(clone);
    assert!(arm.io(0).allocate(1 << 20, Purpose::Data).is_some());
}

pub(crate) fn lasting_memory_is_beside_the_arena_and_written_by_a_sole_holder_alone<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut held = Vec::new();
    while let Some(buffer) = arm.io(0).allocate(1 << 20, Purpose::Data) {
        held.push(buffer);
    }
    let lasting: Vec<_> = (0..=held.len() as u8)
        .map(|byte| {
            let mut buffer = arm.io(0).allocate_lasting(1 << 20).expect("the arena is no limit");
            assert_eq!(buffer.len(), 1 << 20);
            buffer.fill(byte);
            buffer.share()
        })
        .collect();
    for (byte, shared) in (0..).zip(lasting) {
        let sending = shared.clone();
        let shared = arm.io(0).reclaim(shared).expect_err("somebody else holds it");
        std::thread::spawn(move || assert!(sending.iter().all(|held| *held == byte))).join().unwrap();
        let mut buffer = arm.io(0).reclaim(shared).expect("nobody else holds it any more");
        assert_eq!(buffer[77], byte);
        buffer[77] = 0xff;
        arm.io(0).release_lasting(buffer.share());
    }
    assert!(arm.io(0).allocate(1 << 20, Purpose::Data).is_none(), "the arena has got nothing of it");
}

pub(crate) fn reserves_cannot_be_taken_by_host_data<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut held = Vec::new();
    for len in [1 << 20, 64 * 1024, 4096] {
        while let Some(buffer) = arm.io(0).allocate(len, Purpose::Data) {
            held.push(buffer);
        }
    }
    let log = arm.io(0).allocate(1 << 20, Purpose::Log).expect("a reserve for the log");
    let admin = arm.io(0).allocate(4096, Purpose::Admin).expect("a reserve for admin queues");
    assert!(arm.io(0).allocate(4096, Purpose::Data).is_none());
    drop((log, admin));
    assert!(arm.io(0).allocate(4096, Purpose::Data).is_none(), "reserves stay reserves");
}

pub(crate) fn a_poll_whose_deadline_has_passed_only_looks<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut events = Vec::new();
    let deadline = arm.io(0).now();
    arm.io(0).poll(Some(deadline), &mut events).unwrap();
    assert!(events.is_empty());
    assert!(arm.io(0).now().since(deadline) < Duration::from_secs(1));
}

pub(crate) fn a_poll_without_events_lasts_until_its_deadline<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut events = Vec::new();
    let deadline = arm.io(0).now() + Duration::from_millis(30);
    arm.io(0).poll(Some(deadline), &mut events).unwrap();
    assert!(events.is_empty());
    let now = arm.io(0).now();
    assert!(now >= deadline, "{now:?} is before {deadline:?}");
    assert!(now.since(deadline) < Duration::from_secs(1));
}

pub(crate) fn a_poll_without_a_deadline_waits_for_an_event_and_appends_it<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut events = Vec::new();
    for number in 1..=2 {
        post(&mut arm, 0, 0, io::Lane::Reply, number);
        arm.io(0).poll(None, &mut events).unwrap();
        assert_eq!(events.len(), usize::try_from(number).unwrap());
    }
}

pub(crate) fn time_stands_still_between_polls_and_never_goes_back<A: Arm>() {
    let mut arm = A::start(1, &[]);
    let mut last = arm.io(0).now();
    let mut events = Vec::new();
    for _ in 0..20 {
        let deadline = arm.io(0).now() + Duration::from_micros(300);
        arm.io(0).poll(Some(deadline), &mut events).unwrap();
        let now = arm.io(0).now();
        assert!(now >= last);
        last = now;
        assert_eq!(arm.io(0).now(), now);
    }
    // Later than 2024, earlier than 2100.
    assert!((1_704_067_200_000_000_000..4_102_444_800_000_000_000).contains(&arm.io(0).unix_nanos()));
}

pub(crate) fn an_operation_gives_back_the_very_buffer_it_took<A: Arm>() {
    use io::{Disk, DriveId, Event, Token};
    let mut arm = A::start(1, &[1 << 20]);
    let mut buffer = buffer(&mut arm, 0, 8192);
    buffer.fill(9);
    let place = buffer.as_ptr();
    arm.io(0).write(Token(1), DriveId(0), 0, buffer, 4096);
    let Event::Written { buffer, .. } = one(&mut arm, 0) else { panic!("not a write") };
    assert_eq!((buffer.as_ptr(), buffer.len()), (place, 8192));
    assert!(buffer.iter().all(|byte| *byte == 9));
}
