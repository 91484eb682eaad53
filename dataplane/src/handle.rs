//! The management plane's way to the reactors.

use std::fmt;
use std::sync::Arc;

use engine::{Action, ActionError, Outcome};

/// Receives the answer to one action, on a reactor's thread: it must not block.
pub type Reply = Box<dyn FnOnce(Result<Outcome, ActionError>) + Send>;

/// Sends actions to the data plane; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Handle {
    submit: Arc<dyn Fn(Action, Reply) + Send + Sync>,
}

impl Handle {
    /// A handle that hands every action to `submit`.
    pub fn new(submit: impl Fn(Action, Reply) + Send + Sync + 'static) -> Self {
        Self { submit: Arc::new(submit) }
    }

    /// Sends `action`; `reply` is called exactly once.
    pub fn submit(&self, action: Action, reply: impl FnOnce(Result<Outcome, ActionError>) + Send + 'static) {
        (self.submit)(action, Box::new(reply));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
