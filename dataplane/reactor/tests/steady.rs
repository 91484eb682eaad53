//! A reactor in steady traffic allocates nothing. Alone in its process, whose allocator it counts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};

use io::{
    Buffer, Clock, Disk, DriveId, Event, Extent, Io, Lane, Mail, Net, Purpose, Segment, SendList, Slice,
    Token,
};
use reactor::{ArenaBuffer, Features, Reactor};
use support::{Scratch, config, pair, single};

const BLOCK: u32 = 4096;
const ROUNDS: usize = 2000;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What goes round: a list for answers, a buffer on the disk, a message.
struct Traffic {
    list: Option<SendList<ArenaBuffer>>,
    payload: <ArenaBuffer as Buffer>::Shared,
    answered: usize,
}

impl Traffic {
    /// Everything that happened leads to the next operation of its kind.
    fn handle(&mut self, reactor: &mut Reactor<u64>, event: Event<ArenaBuffer, u64, reactor::OwnedSocket>) {
        match event {
            Event::Received { connection, result } => {
                assert_eq!(result.unwrap().unwrap().len(), 72);
                reactor.receive(connection);
                let mut list = self.list.take().unwrap();
                list.push_header(&[1; 24]);
                list.segments.push(Segment::Shared(Slice::whole(self.payload.clone())));
                list.segments.push(Segment::Zeroes { len: 100 });
                reactor.send(connection, list);
            }
            Event::Sent { mut list, result, .. } => {
                assert_eq!(result, Ok(()));
                list.clear();
                self.list = Some(list);
                self.answered += 1;
            }
            Event::Written { token, buffer, result } => {
                assert_eq!(result, Ok(()));
                let part = |start| Extent { drive: DriveId(0), offset: u64::from(start), start, len: BLOCK };
                reactor.read(token, buffer, &[part(0), part(BLOCK)]);
            }
            Event::Read { token, buffer, result } => {
                assert_eq!(result, Ok(()));
                reactor.write(token, DriveId(0), 0, buffer, 2 * BLOCK);
            }
            Event::Mail { message, .. } => {
                let own = reactor.reactor();
                reactor.post(own, Lane::Request, message + 1).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn steady_traffic_allocates_nothing() {
    let scratch = Scratch::new("steady");
    let drives = scratch.drives(1, 8);
    for features in [Features::all(), Features::none()] {
        let mut reactor = single(&config(features, drives.clone()));
        let (mut theirs, ours) = pair(&mut reactor);
        let host = std::thread::spawn(move || {
            let mut answer = [0; 24 + 4096 + 100];
            // Until the reactor hangs up.
            while theirs.write_all(&[7; 72]).is_ok() && theirs.read_exact(&mut answer).is_ok() {}
        });
        reactor.receive(ours);
        let buffer = support::patterned(&mut reactor, 2 * BLOCK as usize, 1);
        reactor.write(Token(3), DriveId(0), 0, buffer, 2 * BLOCK);
        let own = reactor.reactor();
        reactor.post(own, Lane::Request, 0).unwrap();
        let payload = io::Memory::allocate(&mut reactor, 4096, Purpose::Data).unwrap().share();
        let mut traffic = Traffic { list: Some(SendList::new()), payload, answered: 0 };
        let mut events = Vec::with_capacity(64);
        let mut before = 0;
        while traffic.answered < ROUNDS {
            if traffic.answered < ROUNDS / 2 {
                before = COUNT.get();
            }
            let deadline = reactor.now() + support::PATIENCE;
            reactor.poll(Some(deadline), &mut events).unwrap();
            for event in events.drain(..) {
                traffic.handle(&mut reactor, event);
            }
        }
        assert_eq!(COUNT.get() - before, 0, "allocations in steady traffic with {features}");
        drop(traffic);
        drop(reactor);
        host.join().unwrap();
    }
}
