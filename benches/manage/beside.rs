//! What requests at full speed do to a host's reads at a fixed rate.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dataplane::load::{self, LoadOptions, LoadReport, Pattern};

use crate::rest::{self, Connection, block_on};
use crate::rows::{CONNECTIONS, read_all};
use crate::site::{CLIENT_CPU, Site, VOLUMES, go_first, pin_this_thread};
use crate::{Bar, Figure, Options, median};

/// Reads a second.
const RATE: u32 = 20_000;
/// Volumes in the lists that are read meanwhile.
const LISTED: usize = 1000;
/// Enough to write all of the memory.
const FILL_TIME: Duration = Duration::from_secs(3);

/// p99 of reads of 4 KiB from memory beside requests and lists, against the same without.
pub(crate) fn reads_beside_management(options: &Options) -> Result<Vec<Figure>, String> {
    let site = Site::start(1024, vec!["ram:1GiB"]);
    let nsid = only_namespace(&site)?;
    // Memory that was never written is not read, but answered with zeros.
    let writes = site.reads(nsid, None, options);
    run(&LoadOptions { pattern: Pattern::Write, block_bytes: 128 << 10, time: FILL_TIME, ..writes })?;
    let made: Vec<_> =
        (0..LISTED).map(|number| crate::site::volume(&format!("v{number}"), 1 << 20)).collect();
    let first = block_on(async {
        let mut client = Connection::open(&site.api, &site.token).await?;
        let mut first = String::new();
        for body in &made {
            let volume = client.json("POST", VOLUMES, Some(body)).await?;
            first = volume["UUID"].as_str().unwrap_or_default().to_owned();
        }
        Ok::<_, String>(first)
    })?;
    let path = format!("{VOLUMES}/{first}");
    // The reactor has a CPU to itself, as far as this program is concerned.
    pin_this_thread(CLIENT_CPU);
    let reads = site.reads(nsid, Some(RATE), options);
    let (mut ratios, mut alone, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut short) = (Vec::new(), 0);
    for _ in 0..options.rounds {
        let control = run_first(&reads)?;
        let (busy, served) = with_management(&site, &path, &reads)?;
        let p99 = |report: &LoadReport| report.all.latency.p99 as f64 / 1e3;
        ratios.push(p99(&busy) / p99(&control));
        alone.push(p99(&control));
        beside.push(p99(&busy));
        rates.push(served);
        short += usize::from(busy.all.iops < f64::from(RATE) * 0.98);
    }
    let note = format!(
        "{:.0} us beside, {:.0} us alone; {:.0} requests a second meanwhile; {short} rounds below the rate{}",
        median(&beside),
        median(&alone),
        median(&rates),
        priority_note()
    );
    Ok(vec![Figure {
        what: format!("p99 of 4 KiB random reads at {RATE} a second beside management, against alone"),
        rounds: ratios,
        bar: Some(Bar::AtMost(2.0)),
        note,
    }])
}

/// Runs the reads while one thread asks on all connections and another lists; requests a second meanwhile.
fn with_management(site: &Site, path: &str, reads: &LoadOptions) -> Result<(LoadReport, f64), String> {
    let over = AtomicBool::new(false);
    let lists = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let time = reads.ramp + reads.time;
        let requests = scope.spawn(move || rest::load(&site.api, &site.token, path, CONNECTIONS, time));
        let listing = scope.spawn(|| {
            block_on(async {
                let mut client = Connection::open(&site.api, &site.token).await?;
                while !over.load(Ordering::Relaxed) {
                    read_all(&mut client, || ()).await?;
                    lists.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok::<_, String>(())
            })
        });
        let report = run_first(reads);
        over.store(true, Ordering::Relaxed);
        let served = requests.join().map_err(|_| "the requests panicked".to_owned())??;
        listing.join().map_err(|_| "the lists panicked".to_owned())??;
        Ok((report?, served.rate))
    })
}

/// Runs a load that must be clean, on a thread that is given the CPU first.
fn run_first(options: &LoadOptions) -> Result<LoadReport, String> {
    let with_priority = || {
        go_first();
        run(options)
    };
    std::thread::scope(|scope| scope.spawn(with_priority).join())
        .map_err(|_| "the load panicked".to_owned())?
}

/// What a figure does not show where loads cannot be given the CPU first.
fn priority_note() -> &'static str {
    let can = std::thread::scope(|scope| scope.spawn(go_first).join()).unwrap_or(false);
    if can { "" } else { "; the reads had to wait for a CPU like everything else: run as root" }
}

/// Runs a load that must be clean.
pub(crate) fn run(options: &LoadOptions) -> Result<LoadReport, String> {
    let report = load::run(options, |_| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    if report.is_clean() { Ok(report) } else { Err(format!("commands failed: {:?}", report.errors)) }
}

fn only_namespace(site: &Site) -> Result<u32, String> {
    let identity = tests::association::Identity::new(site.server.port, &site.server.nqn(), 9);
    let found = tests::association::Association::connect(&identity).namespaces();
    found.first().copied().ok_or_else(|| "no namespace".to_owned())
}
