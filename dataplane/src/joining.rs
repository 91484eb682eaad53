//! Drives that join the pool while it is used: opened here, made one of the pool's by reactor 0.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Action, ActionError};
use reactor::{DriveSet, DriveSpec};

use crate::handle::Reply;

/// Lets drives join, one at a time: behind the pool's own there is at most the one that is to join.
#[derive(Debug)]
pub(crate) struct Joining {
    drives: DriveSet,
    is_busy: AtomicBool,
}

impl Joining {
    /// For the drives of a pool.
    pub(crate) fn new(drives: DriveSet) -> Self {
        Self { drives, is_busy: AtomicBool::new(false) }
    }

    /// Opens a drive for all reactors on a thread of its own, since that can take a while, and lets reactor 0, which is
    /// asked by `post`, make it one of the pool's. Where that fails the drive is taken out again.
    pub(crate) fn begin(
        self: &Arc<Self>,
        path: String,
        reply: Reply,
        post: impl FnOnce(Action, Reply) + Send + 'static,
    ) {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return reply(Err(ActionError::Busy));
        }
        let this = Arc::clone(self);
        let reply: Reply = Box::new(move |outcome| {
            this.is_busy.store(false, Ordering::Release);
            reply(outcome);
        });
        let reply = Arc::new(Mutex::new(Some(reply)));
        let (this, taken) = (Arc::clone(self), Arc::clone(&reply));
        let work = move || {
            if let Some(reply) = take(&taken) {
                this.open_and_add(path, reply, post);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("add drive".to_owned()).spawn(work)
            && let Some(reply) = take(&reply)
        {
            reply(Err(ActionError::Drive(format!("no thread to open the drive: {error}; try again"))));
        }
    }

    fn open_and_add(&self, path: String, reply: Reply, post: impl FnOnce(Action, Reply)) {
        let added = match self.drives.add(&DriveSpec::existing(&path)) {
            Ok(added) => added,
            Err(error) => return reply(Err(ActionError::Drive(error.to_string()))),
        };
        let drives = self.drives.clone();
        let reply: Reply = Box::new(move |outcome| {
            if outcome.is_err() {
                drives.withdraw(added);
            }
            reply(outcome);
        });
        post(Action::AddDrive { path }, reply);
    }
}

fn take(reply: &Mutex<Option<Reply>>) -> Option<Reply> {
    reply.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod test {
    //! Goal: one drive joins at a time, and one that could not leaves its place to the next.

    use std::path::PathBuf;
    use std::sync::mpsc;

    use engine::Outcome;
    use reactor::{ADDED_BYTES_MIN, Fill};

    use super::*;

    /// Begins to let a drive join; `reactor` has what reactor 0 was asked, with its way to answer.
    fn begin(
        joining: &Arc<Joining>,
        path: &std::path::Path,
    ) -> (mpsc::Receiver<Result<Outcome, ActionError>>, mpsc::Receiver<Reply>) {
        let ((done, answer), (asked, reactor)) = (mpsc::channel(), mpsc::channel());
        let reply = Box::new(move |outcome| done.send(outcome).unwrap());
        joining.begin(path.display().to_string(), reply, move |_, reply| asked.send(reply).unwrap());
        (answer, reactor)
    }

    fn named(drives: &DriveSet) -> Vec<PathBuf> {
        drives.iter().map(|drive| drive.path().to_owned()).collect()
    }

    #[test]
    fn a_drive_that_could_not_join_leaves_its_place_and_a_second_waits_for_the_first() {
        let folder = std::env::temp_dir().join(format!("ferrule-joining-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [first, bad, good, late] = ["first", "bad", "good", "late"].map(|name| {
            let path = folder.join(name);
            std::fs::File::create(&path).unwrap().set_len(ADDED_BYTES_MIN).unwrap();
            path
        });
        let drives = DriveSet::open(&[DriveSpec::sized(&first, ADDED_BYTES_MIN, Fill::Sparse)]).unwrap();
        let joining = Arc::new(Joining::new(drives.clone()));

        let (answer, reactor) = begin(&joining, &bad);
        let asked = reactor.recv().unwrap();
        assert_eq!(named(&drives), [first.clone(), bad.clone()]);
        let (refused, _) = begin(&joining, &late);
        assert_eq!(refused.recv().unwrap(), Err(ActionError::Busy));
        assert_eq!(named(&drives), [first.clone(), bad.clone()], "what is refused is not opened");
        asked(Err(ActionError::Device));
        assert_eq!(answer.recv().unwrap(), Err(ActionError::Device));
        assert_eq!(named(&drives), std::slice::from_ref(&first));

        let (answer, reactor) = begin(&joining, &good);
        reactor.recv().unwrap()(Ok(Outcome::Done));
        assert_eq!(answer.recv().unwrap(), Ok(Outcome::Done));
        assert_eq!(named(&drives), [first, good.clone()]);
        let (answer, _) = begin(&joining, &good);
        assert!(matches!(answer.recv().unwrap(), Err(ActionError::Drive(why)) if why.contains("twice")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
