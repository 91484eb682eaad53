//! Memory that is not needed any more goes back. Alone in its process, because it measures the process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use io::{Buffer, Clock, Disk, DriveId, Event, Io, Lasting, Memory, Purpose, Token};
use reactor::{Features, Reactor, ReactorConfig};
use support::{Scratch, resident_bytes, single, until};

#[test]
fn memory_that_is_not_needed_any_more_goes_back_to_the_system() {
    let scratch = Scratch::new("idle-trim");
    let drives = scratch.drives(1, 128);
    for features in [Features::all(), Features::none()] {
        let config = ReactorConfig {
            features,
            pin: false,
            arena_bytes: 160 << 20,
            ..ReactorConfig::new(drives.clone(), 1)
        };
        let mut reactor = single(&config);
        let before = resident_bytes();
        // Through the disk, so that the memory is registered too.
        let mut count = 0;
        while let Some(mut buffer) = reactor.allocate(1 << 20, Purpose::Data) {
            buffer.fill(1);
            reactor.write(Token(count), DriveId(0), count << 20, buffer, 1 << 20);
            count += 1;
        }
        assert!(count > 90);
        let mut left = count;
        until(&mut reactor, |_, event| {
            left -= u64::from(matches!(event, Event::Written { result: Ok(()), .. }));
            (left == 0).then_some(())
        });
        assert!(resident_bytes() > before + (80 << 20));
        wait_for_less_than(&mut reactor, before + (24 << 20));
        assert!(reactor.stats().arena_registered_bytes_now <= 16 << 20);
        // It is there again when it is needed.
        let mut buffer = reactor.allocate(1 << 20, Purpose::Data).unwrap();
        buffer.fill(2);
        reactor.write(Token(1), DriveId(0), 0, buffer, 1 << 20);
        let result = until(&mut reactor, |_, event| match event {
            Event::Written { result, .. } => Some(result),
            _ => None,
        });
        assert_eq!(result, Ok(()));

        // What lasts goes back once it was released.
        let before = resident_bytes();
        let lasting: Vec<_> = (0..80)
            .map(|_| {
                let mut buffer = reactor.allocate_lasting(1 << 20).unwrap();
                buffer.fill(1);
                buffer.share()
            })
            .collect();
        assert!(resident_bytes() > before + (70 << 20));
        lasting.into_iter().for_each(|shared| reactor.release_lasting(shared));
        wait_for_less_than(&mut reactor, before + (8 << 20));
    }
}

/// Polls without work until the process has so little.
fn wait_for_less_than(reactor: &mut Reactor<u64>, bytes: usize) {
    let mut events = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(30);
    while resident_bytes() > bytes {
        assert!(Instant::now() < give_up, "{} KiB too many stay", (resident_bytes() - bytes) >> 10);
        let next = reactor.now() + Duration::from_millis(100);
        reactor.poll(Some(next), &mut events).unwrap();
    }
}
