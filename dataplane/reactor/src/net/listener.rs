//! Listeners: what they accept becomes an event; what they cannot accept for lack of something is tried again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io::{Event, ListenerId, Time};

use super::{OwnedSocket, Sockets};
use crate::reactor::Ready;
use crate::ring::{Completion, Ring, accept, socket};

/// How long a listener rests that ran into a limit of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) struct Listener {
    /// `None` once it is closed and its last accept has ended; the place can be taken again.
    socket: Option<TcpListener>,
    id: ListenerId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An accept is under way.
    Accepting,
    /// An accept is under way and ends, because the socket was shut down.
    Closing,
    /// An accept is to be started.
    Idle,
    /// An accept is to be started at that time.
    Resting(Time),
}

impl Listener {
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Resting(until) => Some(until),
            State::Accepting | State::Closing | State::Idle => None,
        }
    }
}

impl Sockets {
    pub(super) fn listen(
        &mut self,
        ring: &mut Ring,
        id: ListenerId,
        address: SocketAddr,
    ) -> std::io::Result<SocketAddr> {
        let listening = socket::listen(address)?;
        let local = listening.local_addr()?;
        let fd = listening.as_raw_fd();
        let listener = Listener { socket: Some(listening), id, state: State::Accepting };
        let place = match self.listeners.iter().position(|listener| listener.socket.is_none()) {
            Some(place) => {
                self.listeners[place] = listener;
                place
            }
            None => {
                self.listeners.push(listener);
                self.listeners.len() - 1
            }
        };
        accept::start(ring, u32::try_from(place).expect("a handful of listeners"), fd);
        Ok(local)
    }

    pub(super) fn unlisten(&mut self, id: ListenerId) {
        for listener in &mut self.listeners {
            if listener.id != id || listener.state == State::Closing {
                continue;
            }
            let Some(socket) = &listener.socket else { continue };
            // Shutting a listening socket down ends the accept on it.
            shut_down(socket);
            if listener.state == State::Accepting {
                listener.state = State::Closing;
            } else {
                listener.socket = None;
                listener.state = State::Idle;
            }
        }
    }

    pub(super) fn prepare_listeners(&mut self, ring: &mut Ring, now: Time) {
        for (place, listener) in self.listeners.iter_mut().enumerate() {
            let due = match listener.state {
                State::Idle => true,
                State::Resting(until) => until <= now,
                State::Accepting | State::Closing => false,
            };
            if let Some(socket) = &listener.socket
                && due
            {
                listener.state = State::Accepting;
                accept::start(
                    ring,
                    u32::try_from(place).expect("a handful of listeners"),
                    socket.as_raw_fd(),
                );
            }
        }
    }

    /// Takes the completion of an accept.
    pub(crate) fn complete_accept<M>(&mut self, completion: Completion, now: Time, ready: &mut Ready<M>) {
        let listener = &mut self.listeners[completion.key.slot as usize];
        let accepted = accept::socket(completion);
        if !completion.has_more() {
            if listener.state == State::Closing {
                listener.socket = None;
            }
            listener.state = match accepted {
                Err(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    tracing::warn!(
                        "no descriptors or memory for a new connection: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= in systemd)"
                    );
                    State::Resting(now + REST)
                }
                _ => State::Idle,
            };
        }
        if listener.socket.is_none() || listener.state == State::Closing {
            return;
        }
        let Ok(descriptor) = accepted else { return };
        let stream = TcpStream::from(descriptor);
        // A host that has gone again has no address any more.
        let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
        self.counters.accepted += 1;
        ready.push_back(Event::Accepted { listener: listener.id, socket: OwnedSocket(stream), local, peer });
    }
}

fn shut_down(socket: &TcpListener) {
    // The standard library shuts streams down only; a listener's descriptor is one as far as the system cares.
    if let Ok(duplicate) = socket.as_fd_owned() {
        let _ = TcpStream::from(duplicate).shutdown(std::net::Shutdown::Both);
    }
}

/// A second descriptor of a socket.
trait Duplicate {
    fn as_fd_owned(&self) -> std::io::Result<std::os::fd::OwnedFd>;
}

impl Duplicate for TcpListener {
    fn as_fd_owned(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.as_fd().try_clone_to_owned()
    }
}
