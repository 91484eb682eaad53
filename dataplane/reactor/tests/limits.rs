//! A process that runs out of descriptors. Alone in its process, whose limit it lowers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "limits are system calls")]

mod support;

use std::net::TcpStream;
use std::time::Duration;

use io::{Event, Net};
use reactor::{Features, Reactor};
use support::{bare, listen, poll_for, until};

fn set_file_limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Descriptors are given from the lowest on, so this is how many there are where none was closed.
fn lowest_free_descriptor() -> u64 {
    use std::os::fd::AsRawFd;
    std::fs::File::open("/dev/null").unwrap().as_raw_fd().try_into().unwrap()
}

#[test]
fn connections_beyond_the_limit_of_descriptors_wait_and_are_accepted_when_it_rises() {
    for features in [Features::all(), Features::none()] {
        set_file_limit(4096);
        let mut reactor = bare(features);
        let address = listen(&mut reactor);
        let mut adopted = Vec::new();
        let count =
            |events: Vec<support::Happened<u64>>, adopted: &mut Vec<_>, reactor: &mut Reactor<u64>| {
                for event in events {
                    let Event::Accepted { socket, .. } = event else { panic!("{event:?}") };
                    adopted.push(reactor.adopt(socket).unwrap());
                }
            };
        // They are connected by the kernel before they are accepted.
        let hosts: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        set_file_limit(lowest_free_descriptor() + 3);
        let events = poll_for(&mut reactor, Duration::from_millis(250));
        count(events, &mut adopted, &mut reactor);
        assert_eq!(adopted.len(), 3);
        let polls = reactor.stats().enters;
        let events = poll_for(&mut reactor, Duration::from_millis(250));
        count(events, &mut adopted, &mut reactor);
        assert!(reactor.stats().enters < polls + 40, "a listener that rests does not spin");
        set_file_limit(4096);
        until(&mut reactor, |reactor, event| {
            count(vec![event], &mut adopted, reactor);
            (adopted.len() == 10).then_some(())
        });
        drop(hosts);
    }
}
