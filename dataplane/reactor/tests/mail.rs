//! Mail between reactors on threads of their own, and from outside, asleep and awake.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use io::{Event, Io, Lane, Mail, ReactorId};
use reactor::{DriveSet, Features, Reactor, ReactorConfig};
use support::{config, feature_sets, poll_for, seeds, until};

const MESSAGES: u64 = 10_000;

/// Posts requests as fast as they are taken, and waits for all replies.
fn ask(reactor: &mut Reactor<u64>) {
    let mut next = 0;
    let mut answered = 0;
    let mut events = Vec::new();
    while answered < MESSAGES {
        while next < MESSAGES && reactor.post(ReactorId(1), Lane::Request, next).is_ok() {
            next += 1;
        }
        let deadline = (next < MESSAGES).then(|| io::Clock::now(reactor));
        reactor.poll(deadline, &mut events).unwrap();
        for event in events.drain(..) {
            if let Event::Mail { from, message } = event {
                assert_eq!(from, Some(ReactorId(1)));
                assert_eq!(message, answered * 2, "replies come in order");
                answered += 1;
            }
        }
    }
    reactor.post(ReactorId(1), Lane::Request, MESSAGES).unwrap();
    poll_for(reactor, Duration::ZERO);
}

/// Answers every request with its double, which piles up where the boxes are small.
fn answer(reactor: &mut Reactor<u64>) {
    let mut expected = 0;
    let mut events = Vec::new();
    // The one beyond the last says that all replies have arrived.
    while expected <= MESSAGES {
        reactor.poll(None, &mut events).unwrap();
        for event in events.drain(..) {
            if let Event::Mail { from, message } = event {
                assert_eq!(from, Some(ReactorId(0)));
                assert_eq!(message, expected, "requests come in order");
                expected += 1;
                if message < MESSAGES {
                    reactor.post(ReactorId(0), Lane::Reply, message * 2).unwrap();
                }
            }
        }
    }
}

#[test]
fn ten_thousand_requests_are_answered_in_order_whatever_features_are_on() {
    for features in feature_sets() {
        println!("{features}");
        let config = ReactorConfig { mail_slots: 32, ..config(features, DriveSet::none()) };
        let (mut seeds, _) = seeds::<u64>(&config, 2);
        let other = seeds.pop().unwrap().spawn(|reactor| answer(&mut reactor.unwrap())).unwrap();
        ask(&mut seeds.pop().unwrap().start().unwrap());
        other.join().unwrap();
    }
}

#[test]
fn a_sleeping_reactor_is_woken_by_another_and_by_management() {
    for features in feature_sets() {
        let (mut seeds, poster) = seeds::<u64>(&config(features, DriveSet::none()), 2);
        let sleeper = seeds
            .pop()
            .unwrap()
            .spawn(|reactor| {
                let mut reactor = reactor.unwrap();
                let mut sum = 0;
                // No deadline: only mail ends these sleeps.
                until(&mut reactor, |reactor, event| {
                    if let Event::Mail { from, message } = event {
                        sum += message;
                        if let Some(from) = from {
                            reactor.post(from, Lane::Reply, message).unwrap();
                        }
                    }
                    (sum == 3 * 1001).then_some(())
                });
                poll_for(&mut reactor, Duration::from_millis(20));
            })
            .unwrap();
        let mut waker = seeds.pop().unwrap().start().unwrap();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(10));
            let posted = Instant::now();
            waker.post(ReactorId(1), Lane::Request, 1).unwrap();
            until(&mut waker, |_, event| matches!(event, Event::Mail { message: 1, .. }).then_some(()));
            assert!(
                posted.elapsed() < Duration::from_secs(5),
                "woken after {:?} with {features}",
                posted.elapsed()
            );
            std::thread::sleep(Duration::from_millis(5));
            poster.post(ReactorId(1), 1000).unwrap();
        }
        sleeper.join().unwrap();
    }
}

#[test]
fn management_posts_before_the_start_arrive_and_a_full_box_refuses() {
    let config = ReactorConfig { mail_slots: 4, ..config(Features::all(), DriveSet::none()) };
    let (mut seeds, poster) = seeds::<u64>(&config, 1);
    for message in 0..4 {
        poster.post(ReactorId(0), message).unwrap();
    }
    assert_eq!(poster.post(ReactorId(0), 4), Err(4));
    let mut reactor = seeds.pop().unwrap().start().unwrap();
    let mut expected = 0;
    until(&mut reactor, |_, event| match event {
        Event::Mail { from: None, message } => {
            assert_eq!(message, expected);
            expected += 1;
            (expected == 4).then_some(())
        }
        _ => None,
    });
    poster.post(ReactorId(0), 4).unwrap();
}
