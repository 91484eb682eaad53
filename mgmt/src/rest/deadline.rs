//! A stream that fails when its peer is silent, or takes nothing, for too long.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream with a limit on the time that one read or write may wait.
#[derive(Debug)]
pub(crate) struct Deadline<S> {
    stream: S,
    read: Timer,
    write: Timer,
}

impl<S> Deadline<S> {
    /// Wraps `stream`.
    pub(crate) fn new(stream: S, read: Duration, write: Duration) -> Self {
        Self { stream, read: Timer::new(read), write: Timer::new(write) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.read.watch(cx, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadline<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.write.watch(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.write.watch(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.write.watch(cx, outcome)
    }
}

#[derive(Debug)]
struct Timer {
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
    armed: bool,
}

impl Timer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: Box::pin(sleep(limit)), armed: false }
    }

    /// Passes `outcome` on, and fails in its place once it has been pending for the limit.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.armed = false;
            return outcome;
        }
        if !self.armed {
            self.sleep.as_mut().reset(Instant::now() + self.limit);
            self.armed = true;
        }
        match self.sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod test {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_secs(60);

    fn timed_out<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[test]
    fn a_silent_peer_ends_a_read() {
        tokio_uring::start(async {
            // Time goes on when nothing else does.
            tokio::time::pause();
            let (mut peer, stream) = duplex(16);
            let mut stream = Deadline::new(stream, SHORT, LONG);
            peer.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            assert!(timed_out(stream.read_u8().await));
        });
    }

    #[test]
    fn a_peer_that_takes_nothing_ends_a_write() {
        tokio_uring::start(async {
            // Time goes on when nothing else does.
            tokio::time::pause();
            let (peer, stream) = duplex(16);
            let mut stream = Deadline::new(stream, LONG, SHORT);
            assert!(timed_out(stream.write_all(&[0; 64]).await));
            drop(peer);
        });
    }

    #[test]
    fn a_peer_that_is_slow_but_alive_ends_nothing() {
        tokio_uring::start(async {
            // Time goes on when nothing else does.
            tokio::time::pause();
            let (mut peer, stream) = duplex(16);
            let mut stream = Deadline::new(stream, SHORT, LONG);
            let feed = tokio_uring::spawn(async move {
                for byte in 0..8 {
                    sleep(SHORT * 4 / 5).await;
                    peer.write_u8(byte).await.unwrap();
                }
            });
            for byte in 0..8 {
                assert_eq!(stream.read_u8().await.unwrap(), byte);
            }
            feed.await.unwrap();
        });
    }
}
