//! Mailboxes between reactors, and from the management thread to them.
//!
//! Every pair of reactors has a queue for each lane, so that a lane keeps its order and no sender can take another's
//! room. The slots of a request queue are its credits: a message takes one when it is posted and gives it back when
//! the receiver takes it out. A reply that finds its queue full waits with its sender, and so is never refused; how
//! many can wait is bounded by the requests that are being answered.
//!
//! Sleeping: the receiver says so and then looks for mail once more, the sender puts mail and then looks whether the
//! receiver sleeps. Both orders are sequentially consistent, so one of them sees the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crossbeam_queue::ArrayQueue;
use io::{Lane, ReactorId};

use crate::ring::wake::Bell;

/// All mailboxes of one set of reactors.
pub(crate) struct Office<M> {
    boxes: Vec<Mailbox<M>>,
}

/// What one reactor receives.
struct Mailbox<M> {
    /// By sender.
    requests: Vec<ArrayQueue<M>>,
    /// By sender.
    replies: Vec<ArrayQueue<M>>,
    management: ArrayQueue<M>,
    /// Something was put into a queue since the receiver last looked.
    pending: AtomicBool,
    sleeping: AtomicBool,
    bell: Bell,
    /// The receiver's ring, for wakers that use their own ring; -1 before its start and after its end.
    ring_fd: AtomicI32,
}

/// The management thread's side: posts messages that arrive with `from: None`. Cheap to clone, usable anywhere.
pub struct Poster<M> {
    office: Arc<Office<M>>,
}

/// A reactor's side.
pub(crate) struct Desk<M> {
    office: Arc<Office<M>>,
    own: ReactorId,
    to_self: VecDeque<M>,
    /// Replies that found their queue full, by receiver.
    late: Vec<VecDeque<M>>,
    late_count: usize,
    /// Receivers that got mail since the last flush.
    touched: Vec<ReactorId>,
    slots: usize,
}

/// How a sleeping reactor can be woken.
pub(crate) struct Waking<'a> {
    /// By a message to its ring, whose descriptor this is.
    pub(crate) ring: Option<i32>,
    /// From anywhere.
    pub(crate) bell: &'a Bell,
}

impl<M> Office<M> {
    /// Boxes for `count` reactors with `slots` messages a lane.
    pub(crate) fn new(count: u16, slots: usize) -> std::io::Result<Self> {
        let queues = || (0..count).map(|_| ArrayQueue::new(slots)).collect();
        let boxes = (0..count)
            .map(|_| {
                Ok(Mailbox {
                    requests: queues(),
                    replies: queues(),
                    management: ArrayQueue::new(slots),
                    pending: AtomicBool::new(false),
                    sleeping: AtomicBool::new(false),
                    bell: Bell::new()?,
                    ring_fd: AtomicI32::new(-1),
                })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { boxes })
    }

    /// How many reactors there are.
    pub(crate) fn reactors(&self) -> u16 {
        u16::try_from(self.boxes.len()).unwrap_or(u16::MAX)
    }

    /// The bell of a reactor, for it to listen to.
    pub(crate) fn bell(&self, reactor: ReactorId) -> &Bell {
        &self.boxes[usize::from(reactor.0)].bell
    }

    fn mailbox(&self, reactor: ReactorId) -> &Mailbox<M> {
        &self.boxes[usize::from(reactor.0)]
    }
}

impl<M> Mailbox<M> {
    fn announce(&self) {
        self.pending.store(true, Ordering::SeqCst);
    }

    /// True for the one sender that shall wake the receiver.
    fn must_be_woken(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst)
    }
}

impl<M> Poster<M> {
    pub(crate) fn new(office: Arc<Office<M>>) -> Self {
        Self { office }
    }

    /// Sends a message to a reactor, and wakes it if it sleeps.
    ///
    /// # Errors
    /// The message itself when the reactor's box is full: try again a little later.
    ///
    /// # Panics
    /// If there is no such reactor.
    pub fn post(&self, to: ReactorId, message: M) -> Result<(), M> {
        let mailbox = self.office.mailbox(to);
        mailbox.management.push(message)?;
        mailbox.announce();
        if mailbox.must_be_woken() {
            mailbox.bell.ring();
        }
        Ok(())
    }

    /// How many reactors there are.
    #[must_use]
    pub fn reactors(&self) -> u16 {
        self.office.reactors()
    }
}

impl<M> Clone for Poster<M> {
    fn clone(&self) -> Self {
        Self { office: Arc::clone(&self.office) }
    }
}

impl<M> fmt::Debug for Poster<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("reactors", &self.reactors()).finish()
    }
}

impl<M> Desk<M> {
    pub(crate) fn new(office: Arc<Office<M>>, own: ReactorId, slots: usize) -> Self {
        let late = office.boxes.iter().map(|_| VecDeque::new()).collect();
        Self { office, own, to_self: VecDeque::new(), late, late_count: 0, touched: Vec::new(), slots }
    }

    /// Tells wakers which ring to write to.
    pub(crate) fn set_ring(&self, ring_fd: i32) {
        self.office.mailbox(self.own).ring_fd.store(ring_fd, Ordering::Release);
    }

    pub(crate) fn post(&mut self, to: ReactorId, lane: Lane, message: M) -> Result<(), M> {
        if to == self.own {
            if lane == Lane::Request && self.to_self.len() >= self.slots {
                return Err(message);
            }
            self.to_self.push_back(message);
            return Ok(());
        }
        let sender = usize::from(self.own.0);
        let mailbox = self.office.mailbox(to);
        match lane {
            Lane::Request => mailbox.requests[sender].push(message)?,
            Lane::Reply => {
                let late = &mut self.late[usize::from(to.0)];
                // Behind one that waits, all wait: the lane keeps its order.
                let left = if late.is_empty() { mailbox.replies[sender].push(message) } else { Err(message) };
                if let Err(message) = left {
                    late.push_back(message);
                    self.late_count += 1;
                }
            }
        }
        mailbox.announce();
        if !self.touched.contains(&to) {
            self.touched.push(to);
        }
        Ok(())
    }

    /// Sends what waits and names the receivers that sleep over their mail.
    pub(crate) fn flush(&mut self, mut wake: impl FnMut(ReactorId, Waking<'_>)) {
        if self.late_count > 0 {
            self.send_late();
        }
        for to in self.touched.drain(..) {
            let mailbox = self.office.mailbox(to);
            if mailbox.must_be_woken() {
                let ring_fd = mailbox.ring_fd.load(Ordering::Acquire);
                let ring = (ring_fd >= 0).then_some(ring_fd);
                wake(to, Waking { ring, bell: &mailbox.bell });
            }
        }
    }

    /// Rings the bell of a reactor whose ring could not be reached.
    pub(crate) fn ring_bell(&self, to: ReactorId) {
        self.office.bell(to).ring();
    }

    /// True while replies wait for room at their receivers.
    pub(crate) fn has_late(&self) -> bool {
        self.late_count > 0
    }

    /// True where [`Self::take`] would find something.
    pub(crate) fn has_mail(&self) -> bool {
        !self.to_self.is_empty() || self.office.mailbox(self.own).pending.load(Ordering::Acquire)
    }

    /// Takes out all messages that have arrived.
    pub(crate) fn take(&mut self, mut deliver: impl FnMut(Option<ReactorId>, M)) {
        for message in self.to_self.drain(..) {
            deliver(Some(self.own), message);
        }
        let mailbox = self.office.mailbox(self.own);
        if !mailbox.pending.load(Ordering::Relaxed) || !mailbox.pending.swap(false, Ordering::SeqCst) {
            return;
        }
        for (sender, (replies, requests)) in mailbox.replies.iter().zip(&mailbox.requests).enumerate() {
            let from = Some(ReactorId(u16::try_from(sender).unwrap_or(u16::MAX)));
            while let Some(message) = replies.pop() {
                deliver(from, message);
            }
            // No more than fit at once, so that a busy sender cannot hold the receiver here.
            for _ in 0..self.slots {
                let Some(message) = requests.pop() else { break };
                deliver(from, message);
            }
        }
        for _ in 0..self.slots {
            let Some(message) = mailbox.management.pop() else { break };
            deliver(None, message);
        }
        if mailbox.requests.iter().any(|queue| !queue.is_empty()) || !mailbox.management.is_empty() {
            mailbox.announce();
        }
    }

    /// Says that the reactor is about to sleep; false when mail came before that, and it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        let mailbox = self.office.mailbox(self.own);
        mailbox.sleeping.store(true, Ordering::SeqCst);
        if mailbox.pending.load(Ordering::SeqCst) || !self.to_self.is_empty() {
            mailbox.sleeping.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Says that the reactor is awake.
    pub(crate) fn wake_up(&self) {
        self.office.mailbox(self.own).sleeping.store(false, Ordering::SeqCst);
    }

    fn send_late(&mut self) {
        let sender = usize::from(self.own.0);
        for (index, late) in self.late.iter_mut().enumerate() {
            let to = ReactorId(u16::try_from(index).unwrap_or(u16::MAX));
            let mailbox = self.office.mailbox(to);
            while let Some(message) = late.pop_front() {
                if let Err(message) = mailbox.replies[sender].push(message) {
                    late.push_front(message);
                    break;
                }
                self.late_count -= 1;
                mailbox.announce();
                if !self.touched.contains(&to) {
                    self.touched.push(to);
                }
            }
        }
    }
}

impl<M> Drop for Desk<M> {
    fn drop(&mut self) {
        self.set_ring(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desks(slots: usize) -> (Desk<u32>, Desk<u32>, Poster<u32>) {
        let office = Arc::new(Office::new(2, slots).unwrap());
        let desk = |id| Desk::new(Arc::clone(&office), ReactorId(id), slots);
        (desk(0), desk(1), Poster::new(Arc::clone(&office)))
    }

    fn taken(desk: &mut Desk<u32>) -> Vec<(Option<u16>, u32)> {
        let mut all = Vec::new();
        desk.take(|from, message| all.push((from.map(|id| id.0), message)));
        all
    }

    #[test]
    fn requests_are_refused_when_the_box_is_full_and_accepted_after_it_was_emptied() {
        let (mut a, mut b, _) = desks(2);
        assert_eq!(a.post(ReactorId(1), Lane::Request, 1), Ok(()));
        assert_eq!(a.post(ReactorId(1), Lane::Request, 2), Ok(()));
        assert_eq!(a.post(ReactorId(1), Lane::Request, 3), Err(3));
        assert_eq!(taken(&mut b), [(Some(0), 1), (Some(0), 2)]);
        assert_eq!(a.post(ReactorId(1), Lane::Request, 3), Ok(()));
        assert_eq!(taken(&mut b), [(Some(0), 3)]);
    }

    #[test]
    fn replies_are_never_refused_and_keep_their_order() {
        let (mut a, mut b, _) = desks(2);
        for reply in 0..7 {
            assert_eq!(a.post(ReactorId(1), Lane::Reply, reply), Ok(()));
        }
        let mut all = Vec::new();
        while a.has_late() || b.has_mail() {
            all.extend(taken(&mut b).into_iter().map(|(_, reply)| reply));
            a.flush(|_, _| {});
        }
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn mail_to_oneself_and_from_management_arrives() {
        let (mut a, _b, poster) = desks(2);
        assert_eq!(a.post(ReactorId(0), Lane::Request, 5), Ok(()));
        assert_eq!(poster.post(ReactorId(0), 6), Ok(()));
        assert_eq!(poster.post(ReactorId(0), 7), Ok(()));
        assert_eq!(poster.post(ReactorId(0), 8), Err(8));
        assert_eq!(taken(&mut a), [(Some(0), 5), (None, 6), (None, 7)]);
        assert!(!a.has_mail());
    }

    #[test]
    fn only_a_sleeping_receiver_is_woken_and_only_once() {
        let (mut a, b, _) = desks(8);
        let mut woken = 0;
        a.post(ReactorId(1), Lane::Request, 1).unwrap();
        a.flush(|_, _| woken += 1);
        assert_eq!(woken, 0);
        assert!(!b.fall_asleep(), "mail that came before must not be slept over");
        let mut b = b;
        taken(&mut b);
        assert!(b.fall_asleep());
        a.post(ReactorId(1), Lane::Request, 2).unwrap();
        a.post(ReactorId(1), Lane::Request, 3).unwrap();
        a.flush(|_, _| woken += 1);
        a.post(ReactorId(1), Lane::Request, 4).unwrap();
        a.flush(|_, _| woken += 1);
        assert_eq!(woken, 1);
    }

    #[test]
    fn a_bell_that_is_heard_after_its_mail_was_taken_wakes_again() {
        use std::time::Duration;

        use io::{Clock as _, Event, Io as _};

        use crate::{Cpu, DriveSet, Features, Placement, ReactorConfig};

        let patience = Duration::from_secs(20);
        for features in [Features::all(), Features::none()] {
            let config = ReactorConfig {
                features,
                arena_bytes: 16 << 20,
                pin: false,
                ..ReactorConfig::new(DriveSet::none(), 1)
            };
            let reactors = vec![Cpu { number: 0, core: 0, node: 0 }];
            let placement = Placement { reactors, others: Vec::new(), nodes: 1 };
            let built = crate::build::<u64>(&config, &placement).unwrap();
            let mut reactor = built.seeds.into_iter().next().unwrap().start().unwrap();
            let mut events = Vec::new();
            // The reactor listens; then the bell rings for mail that it has already found by itself.
            reactor.poll(Some(reactor.now()), &mut events).unwrap();
            let office = Arc::clone(&reactor.office);
            office.bell(ReactorId(0)).ring();
            let (poster, watched) = (built.poster, Arc::clone(&office));
            let management = std::thread::spawn(move || {
                while !watched.boxes[0].sleeping.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                poster.post(ReactorId(0), 7).unwrap();
            });
            let deadline = reactor.now() + patience;
            while events.is_empty() && reactor.now() < deadline {
                reactor.poll(Some(deadline), &mut events).unwrap();
            }
            management.join().unwrap();
            assert!(matches!(events[..], [Event::Mail { from: None, message: 7 }]), "{features}");
            assert!(reactor.now() < deadline, "{features}: it slept over its mail");
        }
    }
}
