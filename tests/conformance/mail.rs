//! Cases on mail between reactors.

use io::{Event, Lane, Mail, ReactorId};

use crate::arm::{Arm, Note, glance, post, silence, until};

pub(crate) fn reactors_know_their_number_and_how_many_they_are<A: Arm>() {
    let mut arm = A::start(3, &[]);
    for number in 0..3 {
        assert_eq!(arm.io(number).reactor(), ReactorId(number));
        assert_eq!(arm.io(number).reactors(), 3);
    }
}

pub(crate) fn mail_of_one_lane_arrives_in_order_with_its_sender<A: Arm>() {
    let mut arm = A::start(2, &[]);
    for lane in [Lane::Request, Lane::Reply] {
        for number in 0..50 {
            post(&mut arm, 1, 0, lane, number);
        }
        let mut sender = Vec::new();
        glance(&mut arm, 1, &mut sender);
        assert!(sender.is_empty());
        for (number, event) in until(&mut arm, 0, |events| events.len() >= 50).into_iter().enumerate() {
            let Event::Mail { from, message } = event else { panic!("not mail") };
            assert_eq!(from, Some(ReactorId(1)));
            assert_eq!(message, Note(number as u64));
        }
    }
    silence(&mut arm, 0);
}

pub(crate) fn mail_to_oneself_arrives_at_the_next_poll<A: Arm>() {
    use io::{Clock, Io};
    let mut arm = A::start(2, &[]);
    for lane in [Lane::Request, Lane::Reply] {
        post(&mut arm, 1, 1, lane, 4);
        let mut events = Vec::new();
        let deadline = arm.io(1).now();
        arm.io(1).poll(Some(deadline), &mut events).unwrap();
        let Some(Event::Mail { from, message }) = events.pop() else { panic!("no mail") };
        assert_eq!((from, message), (Some(ReactorId(1)), Note(4)));
    }
}

pub(crate) fn requests_are_refused_when_the_box_is_full_and_replies_never<A: Arm>() {
    let mut arm = A::start(2, &[]);
    let mut sent = 0;
    let refused = loop {
        match arm.io(0).post(ReactorId(1), Lane::Request, Note(sent)) {
            Ok(()) => sent += 1,
            Err(message) => break message,
        }
        assert!(sent < 1_000_000, "a box without a bottom");
        if sent.is_multiple_of(64) {
            glance(&mut arm, 0, &mut Vec::new());
        }
    };
    assert_eq!(refused, Note(sent), "the very message comes back");
    // Each request is answered, the other side's own requests in the way notwithstanding.
    let mut own = 0;
    while arm.io(1).post(ReactorId(0), Lane::Request, Note(own)).is_ok() {
        own += 1;
    }
    let mut received = 0;
    while received < sent {
        let mut events = Vec::new();
        glance(&mut arm, 0, &mut Vec::new());
        glance(&mut arm, 1, &mut events);
        for event in events {
            let Event::Mail { message, .. } = event else { panic!("not mail") };
            assert_eq!(message, Note(received));
            received += 1;
            let answer = arm.io(1).post(ReactorId(0), Lane::Reply, message);
            assert!(answer.is_ok(), "a reply was refused");
        }
    }
    glance(&mut arm, 1, &mut Vec::new());
    glance(&mut arm, 0, &mut Vec::new());
    post(&mut arm, 0, 1, Lane::Request, 1);
}

pub(crate) fn mail_ends_a_poll_without_a_deadline<A: Arm>() {
    use io::Io;
    let mut arm = A::start(2, &[]);
    post(&mut arm, 0, 1, Lane::Request, 1);
    glance(&mut arm, 0, &mut Vec::new());
    let mut events = Vec::new();
    arm.io(1).poll(None, &mut events).unwrap();
    assert_eq!(events.len(), 1);
}

pub(crate) fn both_lanes_are_served<A: Arm>() {
    let mut arm = A::start(2, &[]);
    post(&mut arm, 0, 1, Lane::Reply, 1);
    post(&mut arm, 0, 1, Lane::Request, 2);
    glance(&mut arm, 0, &mut Vec::new());
    let mut numbers: Vec<u64> = until(&mut arm, 1, |events| events.len() == 2)
        .into_iter()
        .map(|event| match event {
            Event::Mail { message, .. } => message.0,
            other => panic!("{other:?}"),
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}
