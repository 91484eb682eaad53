//! Mail of one reactor: what goes to itself stays here, what a full box refuses waits here in order.

use std::collections::VecDeque;

use io::{Lane, Mail, ReactorId};

/// Outgoing mail.
#[derive(Debug)]
pub(crate) struct Post<M> {
    reactor: ReactorId,
    /// Requests that a full box refused, by receiver. Bounded by what the connections' quotas let begin.
    refused: Vec<VecDeque<M>>,
    /// Messages to oneself.
    local: VecDeque<M>,
}

impl<M: Send + 'static> Post<M> {
    /// No mail, on `reactor` of `reactors`.
    pub(crate) fn new(reactor: ReactorId, reactors: u16) -> Self {
        Self { reactor, refused: (0..reactors).map(|_| VecDeque::new()).collect(), local: VecDeque::new() }
    }

    /// Sends a request; requests to one receiver arrive in order.
    pub(crate) fn request(&mut self, mail: &mut impl Mail<Message = M>, to: ReactorId, message: M) {
        if to == self.reactor {
            self.local.push_back(message);
            return;
        }
        let queue = &mut self.refused[usize::from(to.0)];
        if !queue.is_empty() {
            queue.push_back(message);
        } else if let Err(message) = mail.post(to, Lane::Request, message) {
            queue.push_back(message);
        }
    }

    /// Takes back requests to one receiver that a full box has refused so far.
    pub(crate) fn take_back(&mut self, to: ReactorId, is_moot: impl Fn(&M) -> bool) {
        self.refused[usize::from(to.0)].retain(|message| !is_moot(message));
    }

    /// Sends the answer to a request.
    pub(crate) fn reply(&mut self, mail: &mut impl Mail<Message = M>, to: ReactorId, message: M) {
        if to == self.reactor {
            self.local.push_back(message);
        } else if mail.post(to, Lane::Reply, message).is_err() {
            unreachable!("the reply lane refuses nothing");
        }
    }

    /// Sends a request to every reactor, this one included.
    pub(crate) fn broadcast(&mut self, mail: &mut impl Mail<Message = M>, message: impl Fn() -> M) {
        for number in 0..mail.reactors() {
            self.request(mail, ReactorId(number), message());
        }
    }

    /// Tries again what was refused.
    pub(crate) fn retry(&mut self, mail: &mut impl Mail<Message = M>) {
        for (number, queue) in self.refused.iter_mut().enumerate() {
            let to = ReactorId(u16::try_from(number).expect("reactors are numbered by a u16"));
            while let Some(message) = queue.pop_front() {
                if let Err(message) = mail.post(to, Lane::Request, message) {
                    queue.push_front(message);
                    break;
                }
            }
        }
    }

    /// The next message to oneself.
    pub(crate) fn take_local(&mut self) -> Option<M> {
        self.local.pop_front()
    }

    /// True while a full box has refused something.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.iter().any(|queue| !queue.is_empty())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// Takes requests only while it is open, and remembers what it took.
    struct Mailbox {
        is_open: bool,
        taken: Vec<u32>,
    }

    impl Mail for Mailbox {
        type Message = u32;

        fn reactor(&self) -> ReactorId {
            ReactorId(0)
        }

        fn reactors(&self) -> u16 {
            2
        }

        fn post(&mut self, _: ReactorId, lane: Lane, message: u32) -> Result<(), u32> {
            if lane == Lane::Request && !self.is_open {
                return Err(message);
            }
            self.taken.push(message);
            Ok(())
        }
    }

    #[test]
    fn requests_that_a_full_box_refused_can_be_taken_back_and_the_rest_keeps_its_order() {
        let mut mail = Mailbox { is_open: false, taken: Vec::new() };
        let mut post = Post::new(ReactorId(0), 2);
        for message in 1..6 {
            post.request(&mut mail, ReactorId(1), message);
        }
        post.take_back(ReactorId(1), |message| message % 2 == 0);
        mail.is_open = true;
        post.retry(&mut mail);
        assert_eq!(mail.taken, [1, 3, 5]);
        assert!(!post.has_refused());
    }
}
