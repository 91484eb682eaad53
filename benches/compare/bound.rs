//! The transport's bound: a bare TCP echo with the sizes of NVMe/TCP, pinned, spinning, batching all it can.
//!
//! A request stands for a command capsule (72 bytes, with 4096 more where data is in it), a response for what answers
//! it: 4120 bytes for a read whose data ends with the SUCCESS flag, 24 for a response capsule.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

/// Sizes of one exchange in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: usize,
    pub(crate) response: usize,
}

/// A read of 4 KiB.
pub(crate) const READ: Exchange = Exchange { request: 72, response: 4120 };
/// A write of 4 KiB inside its capsule.
pub(crate) const WRITE: Exchange = Exchange { request: 4168, response: 24 };

/// What the echo did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    pub(crate) iops: f64,
    /// Median latency in microseconds.
    pub(crate) p50_us: f64,
    /// 99 % are no longer.
    pub(crate) p99_us: f64,
}

const BUFFER: usize = 256 << 10;

/// Runs the echo for `time`: the server on one CPU, the client on another.
pub(crate) fn echo(
    exchange: Exchange,
    depth: usize,
    time: Duration,
    cpus: (u32, u32),
) -> std::io::Result<Echo> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || serve(&listener, exchange, cpus.0));
        let client = scope.spawn(move || drive(&TcpStream::connect(address)?, exchange, depth, time, cpus.1));
        let echo = client.join().expect("the client ends in order");
        server.join().expect("the server ends in order")?;
        echo
    })
}

fn serve(listener: &TcpListener, exchange: Exchange, cpu: u32) -> std::io::Result<()> {
    pin(cpu)?;
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let mut buffer = vec![0; BUFFER];
    let answers = vec![0x5a; 4 << 20];
    let mut have = 0;
    loop {
        match (&socket).read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => have += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // The client has closed with answers under way.
            Err(_) => return Ok(()),
        }
        let mut whole = have / exchange.request;
        have %= exchange.request;
        while whole > 0 {
            let batch = whole.min(answers.len() / exchange.response);
            if send(&socket, &answers[..batch * exchange.response]).is_err() {
                return Ok(());
            }
            whole -= batch;
        }
    }
}

fn drive(
    socket: &TcpStream,
    exchange: Exchange,
    depth: usize,
    time: Duration,
    cpu: u32,
) -> std::io::Result<Echo> {
    pin(cpu)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    let mut buffer = vec![0; BUFFER];
    let requests = vec![0xa5; depth * exchange.request];
    // Answers come in order, so that a ring of begins is enough.
    let mut begins = vec![Instant::now(); depth];
    let mut latencies = Vec::with_capacity(8 << 20);
    let (mut have, mut count) = (0, 0);
    let start = Instant::now();
    send(socket, &requests)?;
    let mut now = start;
    while now - start < time {
        now = Instant::now();
        match { socket }.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let whole = have / exchange.response;
        have %= exchange.response;
        now = Instant::now();
        for _ in 0..whole {
            let begin = &mut begins[count % depth];
            if latencies.len() < latencies.capacity() {
                latencies.push(u32::try_from((now - *begin).as_nanos()).unwrap_or(u32::MAX));
            }
            *begin = now;
            count += 1;
        }
        send(socket, &requests[..whole * exchange.request])?;
    }
    latencies.sort_unstable();
    let quantile = |share: usize| {
        latencies.get(latencies.len() * share / 100).map_or(0.0, |nanos| f64::from(*nanos) / 1e3)
    };
    Ok(Echo { iops: count as f64 / (now - start).as_secs_f64(), p50_us: quantile(50), p99_us: quantile(99) })
}

fn send(mut socket: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps the thread on a CPU.
pub(crate) fn pin(cpu: u32) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    Ok(sched_setaffinity(None, &set)?)
}
