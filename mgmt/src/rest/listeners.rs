//! Where the REST interface listens: the addresses of the command line, and further ports that open and close.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::Api;
use super::server::Acceptance;

/// The listeners of a server.
#[derive(Default)]
pub(crate) struct Listeners {
    shared: OnceCell<Shared>,
    /// What ends the listeners of the command line's addresses.
    main: RefCell<Vec<watch::Sender<bool>>>,
    /// What ends each further listener and its connections.
    further: RefCell<BTreeMap<(u16, IpAddr), watch::Sender<bool>>>,
}

/// What all listeners share.
struct Shared {
    acceptor: TlsAcceptor,
    connections: Arc<Semaphore>,
}

impl Listeners {
    /// Serves the command line's addresses.
    pub(super) fn start(
        &self,
        api: &Rc<Api>,
        listeners: Vec<TcpListener>,
        acceptor: TlsAcceptor,
        connections: Arc<Semaphore>,
    ) {
        let shared = self.shared.get_or_init(|| Shared { acceptor, connections });
        let stops = listeners.into_iter().map(|listener| shared.serve(api, listener));
        self.main.borrow_mut().extend(stops);
    }

    /// Listens on `port` of exactly these addresses, or changes nothing.
    pub(crate) fn listen(&self, api: &Rc<Api>, port: u16, ips: &[IpAddr]) -> io::Result<()> {
        let shared = self.shared.get().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let mut further = self.further.borrow_mut();
        let fresh = ips.iter().filter(|ip| !further.contains_key(&(port, **ip)));
        let fresh = fresh.map(|ip| Ok((*ip, bind(SocketAddr::new(*ip, port))?)));
        let fresh: Vec<(IpAddr, TcpListener)> = fresh.collect::<io::Result<_>>()?;
        further.retain(|(known, ip), stop| {
            let stays = *known != port || ips.contains(ip);
            if !stays {
                stop.send_replace(true);
            }
            stays
        });
        further.extend(fresh.into_iter().map(|(ip, listener)| ((port, ip), shared.serve(api, listener))));
        Ok(())
    }

    /// Stops listening on `port`; connections end with the request that they are at.
    pub(crate) fn close(&self, port: u16) {
        self.further.borrow_mut().retain(|(known, _), stop| {
            if *known == port {
                stop.send_replace(true);
            }
            *known != port
        });
    }

    /// Stops listening at all.
    pub(super) fn close_all(&self) {
        let further = std::mem::take(&mut *self.further.borrow_mut()).into_values();
        for stop in self.main.take().into_iter().chain(further) {
            stop.send_replace(true);
        }
    }

    /// The further ports that are open.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.further.borrow().keys().map(|(port, _)| *port).collect()
    }
}

impl Shared {
    fn serve(&self, api: &Rc<Api>, listener: TcpListener) -> watch::Sender<bool> {
        let (stop, stopped) = watch::channel(false);
        let acceptance = Acceptance {
            api: api.clone(),
            acceptor: self.acceptor.clone(),
            connections: self.connections.clone(),
            stopped,
        };
        tokio_uring::spawn(acceptance.run(listener));
        stop
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("ports", &self.ports()).finish_non_exhaustive()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
