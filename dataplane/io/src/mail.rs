//! Mail between reactors, and from the management thread to them.

/// A reactor of this process, `0..reactors()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactorId(pub u16);

/// Which way a message goes, and so whether it may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Asks for work; refused when the other side's box has no credit left.
    Request,
    /// Answers a request, and so never refused: the request's credit reserved its place.
    Reply,
}

/// The mailboxes of one reactor. Messages of one lane from one reactor to another arrive in order.
pub trait Mail {
    /// What is sent.
    type Message: Send + 'static;

    /// The reactor that this value belongs to.
    fn reactor(&self) -> ReactorId;

    /// How many reactors there are.
    fn reactors(&self) -> u16;

    /// Sends a message; it leaves at the next poll at the latest and wakes a sleeping receiver. A message to oneself
    /// arrives at the next poll.
    ///
    /// # Errors
    /// The message itself, on [`Lane::Request`] alone, when the box is full: try again after the next poll.
    fn post(&mut self, to: ReactorId, lane: Lane, message: Self::Message) -> Result<(), Self::Message>;
}
