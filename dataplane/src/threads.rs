//! The reactors' threads: what each tells, and that it has ended, comes at once, whichever it is.

use std::sync::mpsc;
use std::thread::JoinHandle;

use io::IoFault;

/// Threads that were started together; each says things of the type `T`.
#[derive(Debug)]
pub(crate) struct Threads<T> {
    handles: Vec<JoinHandle<()>>,
    /// For threads that are still to be started.
    voice: mpsc::Sender<Told<T>>,
    told: mpsc::Receiver<Told<T>>,
}

/// What a thread tells.
#[derive(Debug)]
pub(crate) enum Told<T> {
    /// Something of its own.
    Said(T),
    /// It has ended, so; `None` where it has panicked.
    Ended(Option<Result<(), IoFault>>),
}

/// A thread's way to tell. Its end, too: it is told when this is dropped.
#[derive(Debug)]
pub(crate) struct Voice<T> {
    to: mpsc::Sender<Told<T>>,
    ended: Option<Result<(), IoFault>>,
}

impl<T> Threads<T> {
    /// No threads.
    pub(crate) fn new() -> Self {
        let (voice, told) = mpsc::channel();
        Self { handles: Vec::new(), voice, told }
    }

    /// Starts one more by `spawn`.
    ///
    /// # Errors
    /// That of `spawn`.
    pub(crate) fn start(
        &mut self,
        spawn: impl FnOnce(Voice<T>) -> std::io::Result<JoinHandle<()>>,
    ) -> std::io::Result<()> {
        self.handles.push(spawn(Voice { to: self.voice.clone(), ended: None })?);
        Ok(())
    }

    /// Waits for what any of them tells next.
    pub(crate) fn next(&self) -> Told<T> {
        self.told.recv().expect("one of those who could tell is this itself")
    }

    /// Waits until all have ended, or until one has that could not go on: the others may then never end.
    ///
    /// # Errors
    /// Why that one could not.
    ///
    /// # Panics
    /// If one panicked.
    pub(crate) fn wait(self) -> Result<(), IoFault> {
        let mut left = self.handles.len();
        while left > 0 {
            if let Told::Ended(ended) = self.next() {
                ended.expect("a reactor ends in order")?;
                left -= 1;
            }
        }
        self.join();
        Ok(())
    }

    /// Waits until all have ended, however they do. They were told to.
    pub(crate) fn join(self) {
        for handle in self.handles {
            // One that has panicked has said so.
            drop(handle.join());
        }
    }
}

impl<T> Voice<T> {
    /// Says something.
    pub(crate) fn say(&self, what: T) {
        // Nobody listens where the start was given up.
        drop(self.to.send(Told::Said(what)));
    }

    /// The thread ends, so.
    pub(crate) fn end(mut self, result: Result<(), IoFault>) {
        self.ended = Some(result);
    }
}

impl<T> Drop for Voice<T> {
    fn drop(&mut self) {
        drop(self.to.send(Told::Ended(self.ended.take())));
    }
}

#[cfg(test)]
mod test {
    //! Goal: the end of any thread is known while others run on.

    use super::*;

    /// Starts a thread that ends as `body` says.
    fn start(threads: &mut Threads<u32>, body: impl FnOnce() -> Result<(), IoFault> + Send + 'static) {
        let spawn = |voice: Voice<u32>| std::thread::Builder::new().spawn(move || voice.end(body()));
        threads.start(spawn).unwrap();
    }

    /// A body that runs until the other half is dropped.
    fn busy() -> (mpsc::Sender<()>, impl FnOnce() -> Result<(), IoFault> + Send + 'static) {
        let (go_on, wait) = mpsc::channel();
        let body = move || {
            // It only ever ends.
            let _ = wait.recv();
            Ok(())
        };
        (go_on, body)
    }

    fn fault() -> IoFault {
        IoFault { context: "entering the ring", source: std::io::ErrorKind::Other.into() }
    }

    /// What waiting comes to, unless that takes for ever.
    fn outcome(threads: Threads<u32>) -> Option<std::thread::Result<Result<(), IoFault>>> {
        let (done, outcome) = mpsc::channel();
        let wait = move || {
            let wait = std::panic::AssertUnwindSafe(|| threads.wait());
            drop(done.send(std::panic::catch_unwind(wait)));
        };
        drop(std::thread::Builder::new().spawn(wait).unwrap());
        outcome.recv_timeout(std::time::Duration::from_secs(10)).ok()
    }

    #[test]
    fn one_that_cannot_go_on_is_not_waited_for_behind_the_others() {
        for broken in 0..3 {
            let mut threads = Threads::new();
            let mut running = Vec::new();
            for number in 0..3 {
                let (go_on, body) = busy();
                running.push(go_on);
                if number == broken {
                    start(&mut threads, || Err(fault()));
                } else {
                    start(&mut threads, body);
                }
            }
            let ended = outcome(threads).expect("it does not take for ever");
            assert!(matches!(ended, Ok(Err(IoFault { context: "entering the ring", .. }))), "{broken}");
        }
    }

    #[test]
    fn one_that_has_panicked_is_not_waited_for_either() {
        let mut threads = Threads::new();
        let (_go_on, body) = busy();
        start(&mut threads, body);
        start(&mut threads, || panic!("on purpose"));
        assert!(outcome(threads).expect("it does not take for ever").is_err());
    }

    #[test]
    fn the_last_is_waited_for_whatever_was_said_before() {
        let mut threads = Threads::new();
        let (go_on, body) = busy();
        start(&mut threads, body);
        let spawn = |voice: Voice<u32>| {
            std::thread::Builder::new().spawn(move || {
                voice.say(7);
                drop(go_on);
                voice.end(Ok(()));
            })
        };
        threads.start(spawn).unwrap();
        assert!(matches!(outcome(threads), Some(Ok(Ok(())))));
    }
}
