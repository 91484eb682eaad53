//! Rows of the REST interface by itself: requests a second, creation of volumes, a long list.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::association::{Association, Identity};

use crate::rest::{Connection, block_on, load};
use crate::site::{CLIENT_CPU, SERVER_CPU, Site, VOLUMES, nsid_of, pin_this_thread, volume};
use crate::{Bar, Figure, Options, hello, median};

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 32;
const PAGE: usize = 1000;
const MIB: u64 = 1 << 20;

/// `GET volume` against a bare hyper, each on one CPU, asked from the other.
pub(crate) fn requests(options: &Options) -> Result<Vec<Figure>, String> {
    let site = Site::start(256, Vec::new());
    let bound = hello::start(SERVER_CPU)?;
    site.pin(SERVER_CPU)?;
    pin_this_thread(CLIENT_CPU);
    let made = site.server.create_volume("v", MIB);
    let path = format!("{VOLUMES}/{}", made["UUID"].as_str().unwrap_or_default());
    let (mut ratios, mut own, mut bare, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..options.rounds {
        let served = load(&site.api, &site.token, &path, CONNECTIONS, options.time)?;
        let hello = load(&bound, "", "/", CONNECTIONS, options.time)?;
        ratios.push(served.rate / hello.rate);
        own.push(served.rate);
        bare.push(hello.rate);
        bytes = served.answer_bytes;
    }
    Ok(vec![Figure {
        what: "GET volume on 32 connections over a bare hyper".to_owned(),
        rounds: ratios,
        bar: Some(Bar::AtLeast(0.5)),
        note: format!("{:.0} and {:.0} a second, {bytes} bytes an answer", median(&own), median(&bare)),
    }])
}

/// A volume from the request until a connected host has it in its list, in fsyncs of the same disk.
pub(crate) fn creation(options: &Options) -> Result<Vec<Figure>, String> {
    const VOLUMES_A_ROUND: usize = 20;
    let site = Site::start(1024, Vec::new());
    let mut host = Association::connect(&Identity::new(site.server.port, &site.server.nqn(), 1));
    let folder = site.server.pool().parent().map(std::path::PathBuf::from).unwrap_or_default();
    let (mut ratios, mut own, mut disk, mut answered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    block_on(async {
        let mut client = Connection::open(&site.api, &site.token).await?;
        for round in 0..options.rounds {
            let (mut took, mut syncs) = (Vec::new(), Vec::new());
            for number in 0..VOLUMES_A_ROUND {
                syncs.push(fsync(&folder)?);
                let body = volume(&format!("v{round}-{number}"), MIB);
                let begin = Instant::now();
                let made = client.json("POST", VOLUMES, Some(&body)).await?;
                answered.push(begin.elapsed().as_secs_f64() * 1e6);
                if made["state"] != "Available" {
                    return Err(format!("not Available at once: {made}"));
                }
                let nsid = nsid_of(&made)?;
                while first_namespace_after(&mut host, nsid - 1) != nsid {
                    std::hint::spin_loop();
                }
                took.push(begin.elapsed().as_secs_f64() * 1e6);
            }
            ratios.push(median(&took) / median(&syncs));
            own.push(median(&took));
            disk.push(median(&syncs));
        }
        Ok(())
    })?;
    let note = format!(
        "{:.0} us, answered after {:.0} us, an fsync {:.0} us",
        median(&own),
        median(&answered),
        median(&disk)
    );
    Ok(vec![Figure {
        what: "volume created, Available and seen by a host, in fsyncs".to_owned(),
        rounds: ratios,
        bar: Some(Bar::AtMost(6.0)),
        note,
    }])
}

/// A long list by pages, what it takes of memory, and whether making its volumes slows down.
pub(crate) fn list(options: &Options) -> Result<Vec<Figure>, String> {
    let site = Site::start(4096, Vec::new());
    let begin_bytes = site.server.resident_bytes();
    let creation = block_on(create_many(&site, options.volumes))?;
    let before = site.server.resident_bytes();
    let mut seconds = Vec::new();
    let mut most = before;
    for _ in 0..options.rounds {
        let begin = Instant::now();
        let count = block_on(async {
            let mut client = Connection::open(&site.api, &site.token).await?;
            read_all(&mut client, || most = most.max(site.server.resident_bytes())).await
        })?;
        seconds.push(begin.elapsed().as_secs_f64());
        if count != options.volumes {
            return Err(format!("{count} volumes listed of {}", options.volumes));
        }
    }
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let figure = |what: String, value: Vec<f64>, bar: Option<Bar>, note: String| Figure {
        what,
        rounds: value,
        bar,
        note,
    };
    Ok(vec![
        figure(
            format!("list of {} volumes by pages of {PAGE}, in seconds", options.volumes),
            seconds,
            Some(Bar::AtMost(1.0)),
            "all pages, on one connection, with its TLS handshake".to_owned(),
        ),
        figure(
            "memory that the lists took, in MiB".to_owned(),
            vec![mib(most.saturating_sub(before))],
            Some(Bar::AtMost(50.0)),
            format!("{:.0} MiB before, {:.0} MiB before the volumes", mib(before), mib(begin_bytes)),
        ),
        figure(
            "the last tenth of the volumes against the first, in time to make".to_owned(),
            vec![creation.last / creation.first],
            Some(Bar::AtMost(2.0)),
            format!("{:.1} s for all, {:.1} ms each at the end", creation.all, creation.last * 1e3),
        ),
    ])
}

/// Seconds of making volumes: all, and one in the first and in the last tenth.
struct Creation {
    all: f64,
    first: f64,
    last: f64,
}

async fn create_many(site: &Site, count: usize) -> Result<Creation, String> {
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Connection::open(&site.api, &site.token).await?);
    }
    let begin = Instant::now();
    let tenth = (count / 10).max(1);
    let mut at = Duration::ZERO;
    let mut tenths = Vec::new();
    for first in (0..count).step_by(tenth) {
        let names = (first..count.min(first + tenth)).collect::<Vec<_>>();
        let parts = names.chunks(names.len().div_ceil(CONNECTIONS)).map(<[usize]>::to_vec);
        let tasks: Vec<_> = open
            .drain(..)
            .zip(parts.chain(std::iter::repeat(Vec::new())))
            .map(|(mut client, part)| {
                tokio::spawn(async move {
                    for number in part {
                        let body = volume(&format!("v{number:05}"), MIB);
                        client.ask("POST", VOLUMES, Some(&body)).await?;
                    }
                    Ok::<_, String>(client)
                })
            })
            .collect();
        for task in tasks {
            open.push(task.await.map_err(|error| error.to_string())??);
        }
        let now = begin.elapsed();
        tenths.push((now - at).as_secs_f64() / names.len() as f64);
        at = now;
    }
    let (first, last) = (tenths.first().copied().unwrap_or(0.0), tenths.last().copied().unwrap_or(0.0));
    Ok(Creation { all: begin.elapsed().as_secs_f64(), first, last })
}

/// Reads every page; how many volumes there were.
pub(crate) async fn read_all(client: &mut Connection, mut each: impl FnMut()) -> Result<usize, String> {
    let (mut count, mut last) = (0, String::new());
    loop {
        let path = format!("{VOLUMES}?limit={PAGE}&offsetUUID={last}");
        let page: Value = client.json("GET", &path, None).await?;
        let found = page["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        count += found.len();
        each();
        match found.last() {
            Some(volume) if found.len() == PAGE => {
                last = volume["UUID"].as_str().unwrap_or_default().to_owned()
            }
            _ => return Ok(count),
        }
    }
}

/// The first active namespace after `nsid`.
fn first_namespace_after(host: &mut Association, nsid: u32) -> u32 {
    let list = host.identify(0x02, nsid);
    list.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Writes 4 KiB at the begin of a file and syncs it; in microseconds.
fn fsync(folder: &std::path::Path) -> Result<f64, String> {
    let path = folder.join("fsync");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let mut file = file.map_err(|error| error.to_string())?;
    let begin = Instant::now();
    file.write_all(&[7; 4096]).and_then(|()| file.sync_all()).map_err(|error| error.to_string())?;
    Ok(begin.elapsed().as_secs_f64() * 1e6)
}
