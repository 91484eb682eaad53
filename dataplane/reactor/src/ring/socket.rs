//! Listening sockets, made with the options that the standard library does not offer.
#![expect(unsafe_code, reason = "socket options are set by system calls that take addresses")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Listens on `address`. An IPv6 listener takes no IPv4 connections, so that both can be named; accepted sockets
/// inherit TCP_NODELAY.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes no memory.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made the descriptor, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let fd = socket.as_raw_fd();
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    if address.is_ipv6() {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
    }
    bind(fd, address)?;
    // SAFETY: the call takes no memory.
    let result = unsafe { libc::listen(fd, BACKLOG) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpListener::from(socket))
}

/// Switches an option on.
fn set(fd: RawFd, level: i32, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the value is an integer of the length given, and outlives the call.
    let result =
        unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), size_of::<i32>() as u32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bind(fd: RawFd, address: SocketAddr) -> io::Result<()> {
    let result = match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the name is of the length given, and outlives the call.
            unsafe { libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) }
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { libc::bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) }
        }
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_inherit_that_small_pieces_leave_at_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = listen(address.parse().unwrap()) else { continue };
            let _host = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(listener.accept().unwrap().0.nodelay().unwrap());
        }
    }

    #[test]
    fn both_families_can_have_the_same_port() {
        let v4 = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local_addr().unwrap().port();
        if let Err(error) = listen(format!("[::]:{port}").parse().unwrap()) {
            assert_ne!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
