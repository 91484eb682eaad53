//! Asks the data plane from asynchronous code.

use dataplane::{Action, ActionError, Handle, Identity, Outcome};
use tokio::sync::oneshot;

/// The data plane as handlers see it; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    handle: Handle,
}

impl Plane {
    /// A plane behind `handle`.
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Sends one action and waits for its answer. Dropping the future does not undo the action.
    pub(crate) async fn ask(&self, action: Action) -> Result<Outcome, ActionError> {
        let (answer, answered) = oneshot::channel();
        // The reply runs on a reactor's thread: sending never blocks, and a receiver that has gone is no error.
        self.handle.submit(action, move |outcome| drop(answer.send(outcome)));
        answered.await.unwrap_or(Err(ActionError::Stopping))
    }

    /// Who the data plane is.
    pub(crate) async fn identity(&self) -> Result<Identity, ActionError> {
        match self.ask(Action::ReadIdentity).await? {
            Outcome::Identity(identity) => Ok(*identity),
            other => unreachable_outcome(&other),
        }
    }
}

/// A data plane that answers an action with another action's outcome is broken beyond reporting.
pub(crate) fn unreachable_outcome(outcome: &Outcome) -> ! {
    panic!("the data plane answered with an outcome of another action: {outcome:?}")
}
