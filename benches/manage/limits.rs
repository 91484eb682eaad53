//! What a limit lets through, and what a limited volume does to its neighbour.

use std::ops::ControlFlow;
use std::time::Duration;

use dataplane::load::{self, LoadOptions, Pattern, Waiting};
use serde_json::json;

use crate::beside::run;
use crate::site::{CLIENT_CPU, Site, nsid_of, pin_this_thread, volume};
use crate::{Bar, Figure, Options, median};

/// The limit in commands a second.
const LIMIT: u32 = 10_240;
/// Commands a second of the neighbour.
const NEIGHBOUR: u32 = 5_000;
const VOLUME_BYTES: u64 = 64 << 20;

/// Commands that a limited volume completes, and p99 of an unlimited one beside it against alone.
pub(crate) fn limit_and_neighbour(options: &Options) -> Result<Vec<Figure>, String> {
    let site = Site::start(1024, Vec::new());
    let client = site.server.client();
    let policy = json!({"name": "limited", "qoSRateLimitPolicy": {"limitIOPS": {"readIOPSLimit": LIMIT, "writeIOPSLimit": LIMIT}}});
    client.post("/api/v2/policies", &policy);
    let mut request = volume("limited", VOLUME_BYTES);
    request["qosPolicyName"] = "limited".into();
    let limited = nsid_of(&site.server.create_volume_with(&request))?;
    let free = nsid_of(&site.server.create_volume("free", VOLUME_BYTES))?;
    for nsid in [free, limited] {
        let fill = LoadOptions {
            pattern: Pattern::Write,
            block_bytes: 128 << 10,
            time: Duration::from_secs(2),
            ..site.reads(nsid, None, options)
        };
        run(&fill)?;
    }
    pin_this_thread(CLIENT_CPU);
    let ten = LoadOptions { time: Duration::from_secs(10), ..site.reads(limited, None, options) };
    let measured = run(&ten)?.all.iops / f64::from(LIMIT);
    // Both loads on one thread that never sleeps: with a thread each, the neighbour's figure is the scheduler's.
    let spinning = |nsid, rate| LoadOptions {
        waiting: Waiting::Spin,
        cpus: vec![CLIENT_CPU],
        ..site.reads(nsid, rate, options)
    };
    let neighbour = spinning(free, Some(NEIGHBOUR));
    let flood = LoadOptions {
        // A host of its own: another association of the same would take this one's place.
        host_nqn: "nqn.2014-08.org.nvmexpress:uuid:6c6f6164-0000-4000-8000-000000000002".to_owned(),
        host_id: [2; 16],
        ..spinning(limited, None)
    };
    let (mut ratios, mut alone, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let control = p99_us(std::slice::from_ref(&neighbour))?;
        let busy = p99_us(&[neighbour.clone(), flood.clone()])?;
        ratios.push(busy / control);
        alone.push(control);
        beside.push(busy);
    }
    let note = format!("{:.0} us beside, {:.0} us alone", median(&beside), median(&alone));
    Ok(vec![
        Figure {
            what: format!("commands that a limit of {LIMIT} a second lets through in 10 s, by the limit"),
            rounds: vec![measured],
            bar: Some(Bar::Within(0.02)),
            note: "one run of 10 s".to_owned(),
        },
        Figure {
            what: format!("p99 of an unlimited neighbour at {NEIGHBOUR} a second beside it, against alone"),
            rounds: ratios,
            bar: Some(Bar::AtMost(1.2)),
            note,
        },
    ])
}

/// p99 of the first of some loads that run on one thread.
fn p99_us(loads: &[LoadOptions]) -> Result<f64, String> {
    let reports =
        load::run_together(loads, |_| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    match reports.iter().find(|report| !report.is_clean()) {
        Some(report) => Err(format!("commands failed: {:?}", report.errors)),
        None => Ok(reports.first().map_or(0.0, |report| report.all.latency.p99 as f64 / 1e3)),
    }
}
