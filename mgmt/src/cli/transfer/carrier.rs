//! A thread that owns an attachment and does what it is sent, in order.

use std::collections::VecDeque;

use dataplane::attach::{AttachOptions, Attachment};
use dataplane::load::LoadError;
use tokio::sync::{mpsc, oneshot};

use super::stretches;
use crate::cli::failure::Failure;
use crate::image::{Chunk, Content};

/// Something to do with the attachment.
type Errand = Box<dyn FnOnce(&mut Attachment) + Send>;

/// Sends errands to the thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Carrier {
    errands: mpsc::Sender<Errand>,
    /// Size of the namespace.
    pub(super) size_bytes: u64,
}

/// What an errand will have brought.
#[derive(Debug)]
pub(super) struct Promise<T>(oneshot::Receiver<Result<T, LoadError>>);

/// Chunks under way, in the order in which they were sent.
#[derive(Debug)]
pub(super) struct InOrder {
    under_way: VecDeque<Promise<()>>,
    /// Chunks applied, from the first one on.
    pub(super) done: u64,
}

impl Carrier {
    /// Attaches a namespace.
    pub(super) async fn open(options: AttachOptions) -> Result<Self, Failure> {
        let (errands, mut queue) = mpsc::channel::<Errand>(ERRANDS_MAX);
        let (opened, opening) = oneshot::channel();
        let thread = std::thread::Builder::new().name("carrier".to_owned()).spawn(move || {
            let mut attachment = match Attachment::open(&options) {
                Ok(attachment) => attachment,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(attachment.size_bytes())).is_err() {
                return;
            }
            while let Some(errand) = queue.blocking_recv() {
                errand(&mut attachment);
            }
            // What is done is done; an association that has ended before does not matter any more.
            drop(attachment.close());
        });
        thread.map_err(|error| Failure::Wrong { what: "a thread".to_owned(), reason: error.to_string() })?;
        let size_bytes = Promise(opening).wait().await?;
        Ok(Self { errands, size_bytes })
    }

    /// Reads blocks.
    pub(super) async fn read(&self, runs: Vec<dataplane::attach::Stretch>) -> Promise<Vec<u8>> {
        self.send(move |attachment| {
            let mut data = Vec::new();
            attachment.read(&runs, &mut data).map(|()| data)
        })
        .await
    }

    /// Writes a chunk.
    pub(super) async fn apply(&self, chunk: Chunk) -> Promise<()> {
        self.send(move |attachment| {
            attachment.write(&stretches(&chunk.extents, Content::Data), &chunk.data)?;
            attachment.write_zeroes(&stretches(&chunk.extents, Content::Zeroes))
        })
        .await
    }

    /// Makes safe what was written.
    pub(super) async fn flush(&self) -> Promise<()> {
        self.send(Attachment::flush).await
    }

    async fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Attachment) -> Result<T, LoadError> + Send + 'static,
    ) -> Promise<T> {
        let (answer, promise) = oneshot::channel();
        // A thread that has gone drops the answer's sender too, which the promise tells.
        drop(self.errands.send(Box::new(move |attachment| drop(answer.send(work(attachment))))).await);
        Promise(promise)
    }
}

impl<T> Promise<T> {
    /// Waits for it.
    pub(super) async fn wait(self) -> Result<T, Failure> {
        match self.0.await {
            Ok(outcome) => outcome.map_err(Failure::Transfer),
            Err(_) => Err(Failure::Wrong {
                what: "the transfer".to_owned(),
                reason: "its thread has ended".to_owned(),
            }),
        }
    }
}

impl InOrder {
    /// Nothing under way, and so many chunks applied before.
    pub(super) fn after(done: u64) -> Self {
        Self { under_way: VecDeque::new(), done }
    }

    /// Adds the next chunk.
    pub(super) fn push(&mut self, promise: Promise<()>) {
        self.under_way.push_back(promise);
    }

    /// Waits until so many chunks at most are under way. Of those behind one that has failed nothing is counted, whatever
    /// becomes of them: with that one missing, they have to be applied again.
    pub(super) async fn catch_up(&mut self, most: usize) -> Result<(), Failure> {
        while self.under_way.len() > most {
            let Some(promise) = self.under_way.pop_front() else { break };
            promise.wait().await.inspect_err(|_| self.under_way.clear())?;
            self.done += 1;
        }
        Ok(())
    }
}

/// Errands that may wait for the thread.
const ERRANDS_MAX: usize = 4;

#[cfg(test)]
mod test {
    use super::*;

    /// A promise that is kept already.
    fn ended(outcome: Result<(), LoadError>) -> Promise<()> {
        let (answer, promise) = oneshot::channel();
        answer.send(outcome).unwrap();
        Promise(promise)
    }

    #[test]
    fn chunks_behind_one_that_failed_do_not_count() {
        tokio_uring::start(async {
            let mut chunks = InOrder::after(5);
            for outcome in [Ok(()), Err(LoadError::Timeout("an answer", 30)), Ok(()), Ok(())] {
                chunks.push(ended(outcome));
            }
            assert!(matches!(chunks.catch_up(0).await, Err(Failure::Transfer(_))));
            // What is told of afterwards, when the volume is flushed.
            chunks.catch_up(0).await.unwrap();
            assert_eq!(chunks.done, 6, "the chunk that failed is not in the volume");
        });
    }
}
