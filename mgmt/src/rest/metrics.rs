//! The metrics page, in Prometheus' text format.
//!
//! Anyone may read it, so that a scraper needs no token: it then counts without naming volumes, projects or hosts. Who
//! shows a token of the cluster's administrator also reads a series per volume.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use dataplane::{Statistics, Volume, VolumeState};

use super::cluster::read_statistics;
use super::error::ApiError;
use super::request::Request;
use super::{Api, Parameters, Reply, rules};
use crate::auth::{Caller, Resource, Scope, Verb};

/// `GET /metrics`.
pub(super) async fn page(api: Rc<Api>, caller: Option<Caller>, _: Request) -> Result<Reply, ApiError> {
    let permit = caller.and_then(|caller| caller.permit(Resource::Metrics, Verb::Get, Scope::Cluster).ok());
    Ok(Reply::text("text/plain; version=0.0.4; charset=utf-8", text(&api, permit.is_some()).await?))
}

/// The page, with names of volumes, projects and hosts or without.
pub(super) async fn text(api: &Api, names: bool) -> Result<String, ApiError> {
    let names = names && !Parameters(&api.records).hides_volumes();
    api.view.freshen().await?;
    let statistics = read_statistics(api).await?;
    let mut page = Page::default();
    page.add_pool(&statistics);
    page.add_series(&statistics, names);
    let volumes = api.view.after(None);
    page.add_volume_states(&volumes);
    if names {
        page.add_volumes(&volumes);
    }
    for (status, count) in api.counters.by_status.borrow().iter() {
        let labels = format!("status=\"{status}\"");
        page.add("mgmt_requests_total", "Answers of the REST interface.", true, labels, *count);
    }
    let dropped = api.events.dropped();
    page.add("mgmt_events_dropped_total", "Events that could not be written.", true, "", dropped);
    let silence_s = api.records.silence().map_or(0, |silence| silence.lasts.as_secs());
    let help = "For how long the metadata store has not answered; 0 while it does.";
    page.add("mgmt_metadata_silence_seconds", help, false, "", silence_s);
    page.add("build_info", "The program's version.", false, format!("version=\"{VERSION}\""), 1_u64);
    Ok(page.text())
}

/// Samples by metric name.
#[derive(Debug, Default)]
struct Page {
    metrics: BTreeMap<&'static str, Metric>,
}

#[derive(Debug)]
struct Metric {
    help: &'static str,
    counter: bool,
    samples: String,
}

impl Page {
    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        counter: bool,
        labels: impl AsRef<str>,
        value: impl std::fmt::Display,
    ) {
        let metric =
            self.metrics.entry(name).or_insert_with(|| Metric { help, counter, samples: String::new() });
        let labels = labels.as_ref();
        let outcome = if labels.is_empty() {
            writeln!(metric.samples, "{PREFIX}{name} {value}")
        } else {
            writeln!(metric.samples, "{PREFIX}{name}{{{labels}}} {value}")
        };
        outcome.expect("a String takes everything");
    }

    fn add_pool(&mut self, statistics: &Statistics) {
        let rows = [
            ("pool_size_bytes", "Size of the pool.", false, statistics.pool_size_bytes),
            ("pool_free_bytes", "Bytes of the pool in free segments.", false, statistics.pool_free_bytes),
            ("pool_live_bytes", "Bytes of the pool taken by live blocks.", false, statistics.pool_live_bytes),
            (
                "pool_data_bytes",
                "Bytes of data in live blocks, shared ones counted once.",
                false,
                statistics.pool_data_bytes,
            ),
            ("pool_stored_bytes", "What these take on the drives.", false, statistics.pool_stored_bytes),
            (
                "host_written_bytes_total",
                "Bytes that hosts have written.",
                true,
                statistics.host_written_bytes,
            ),
            (
                "device_written_bytes_total",
                "Bytes written to the drives.",
                true,
                statistics.device_written_bytes,
            ),
        ];
        for (name, help, counter, value) in rows {
            self.add(name, help, counter, "", value);
        }
    }

    fn add_series(&mut self, statistics: &Statistics, named: bool) {
        for series in &statistics.series {
            if named || !names_someone(&series.labels) {
                self.add(series.name, series.help, series.counter, &series.labels, series.value);
            }
        }
    }

    fn add_volume_states(&mut self, volumes: &[Rc<Volume>]) {
        let states = [
            (VolumeState::Available, "available"),
            (VolumeState::Deleting, "deleting"),
            (VolumeState::Failed, "failed"),
        ];
        for (state, name) in states {
            let count = volumes.iter().filter(|volume| volume.state == state).count();
            self.add("volumes", "Volumes by state.", false, format!("state=\"{name}\""), count);
        }
    }

    fn add_volumes(&mut self, volumes: &[Rc<Volume>]) {
        for volume in volumes {
            let spec = &volume.spec;
            // UUIDs, project and volume names have no character that would need an escape.
            let labels = format!(
                "project=\"{}\",volume=\"{}\",uuid=\"{}\",nsid=\"{}\"",
                spec.project,
                spec.name,
                rules::uuid_text(spec.uuid.0),
                volume.nsid
            );
            let usage = &volume.usage;
            let rows = [
                ("volume_size_bytes", "Size of a volume.", spec.size_bytes, false),
                ("volume_logical_used_bytes", "Mapped bytes of a volume.", usage.logical_used_bytes, false),
                (
                    "volume_physical_used_bytes",
                    "Bytes of a volume's live blocks on the drives.",
                    usage.physical_used_bytes,
                    false,
                ),
                (
                    "volume_written_bytes_total",
                    "Bytes that hosts have written to a volume.",
                    usage.user_written_bytes,
                    true,
                ),
            ];
            for (name, help, value, counter) in rows {
                self.add(name, help, counter, &labels, value);
            }
            let hosts = volume.connected_hosts.len();
            self.add("volume_connected_hosts", "Hosts that see a volume.", false, &labels, hosts);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, metric) in &self.metrics {
            let kind = if metric.counter { "counter" } else { "gauge" };
            let samples = &metric.samples;
            writeln!(
                text,
                "# HELP {PREFIX}{name} {}\n# TYPE {PREFIX}{name} {kind}\n{samples}",
                metric.help.trim()
            )
            .expect("a String takes everything");
            // The samples end in a line feed of their own.
            text.pop();
        }
        text
    }
}

/// Whether labels name a tenant's things.
fn names_someone(labels: &str) -> bool {
    let named = |key: &str| labels.split(',').any(|label| label.trim_start().starts_with(key));
    ["volume=", "uuid=", "nsid=", "project=", "host=", "host_nqn=", "address="].into_iter().any(named)
}

const PREFIX: &str = "ferrule_";
const VERSION: &str = env!("CARGO_PKG_VERSION");
