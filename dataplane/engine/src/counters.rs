//! Numbers for the metrics page: what each reactor counts, and their sums.

use io::Buffer;
use store::{Shard, VolumeId};
use subsystem::{CommandCounts, Desk, Ports, StatusClass, TransportStats};

use crate::action::{Series, VolumeUsage};
use crate::message::Counters;
use crate::rack::Rack;

/// The counters of one reactor.
pub(crate) fn of_reactor<B: Buffer>(ports: &Ports<B>, rack: &Rack<B>, images: &[VolumeId]) -> Counters {
    let mut counters = Counters::default();
    add_commands(&mut counters.series, "io", ports.commands());
    add_transport(&mut counters.series, ports.transport());
    gauge(&mut counters.series, "nvme_io_queues", "I/O queues that are connected", ports.queues() as u64);
    for shard in rack.shards() {
        let stats = shard.stats();
        counters.live_bytes += stats.live_bytes;
        counters.data_bytes += stats.data_bytes;
        counters.stored_bytes += stats.stored_bytes;
        counters.device_written_bytes += stats.device_written_bytes;
        counters.host_written_bytes += stats.written_bytes;
        for (drive, count) in shard.checksum_errors() {
            *counters.checksum_errors.entry(drive).or_default() += count;
        }
        let series = &mut counters.series;
        count(series, "store_read_bytes_total", "Bytes that hosts read from volumes", stats.read_bytes);
        count(series, "store_written_bytes_total", "Bytes that hosts wrote to volumes", stats.written_bytes);
        count(series, "store_batches_total", "Batches written to the logs", stats.batches);
        count(
            series,
            "store_device_written_bytes_total",
            "Bytes written to the drives",
            stats.device_written_bytes,
        );
        count(
            series,
            "store_packed_blocks_total",
            "Blocks of hosts that were stored compressed",
            stats.packed_blocks,
        );
        count(series, "store_zero_blocks_total", "Blocks of zeros, which are not stored", stats.zero_blocks);
        count(series, "store_moved_blocks_total", "Blocks that cleaning moved", stats.moved_blocks);
        count(
            series,
            "store_cleaned_segments_total",
            "Segments that cleaning emptied",
            stats.cleaned_segments,
        );
        count(
            series,
            "store_checksum_errors_total",
            "Blocks whose checksum was wrong",
            stats.checksum_errors,
        );
        count(series, "store_read_errors_total", "Reads that a drive failed", stats.read_errors);
        count(series, "store_flushes_total", "Rounds of flushes", stats.flushes);
        count(series, "store_checkpoints_total", "Checkpoints that became durable", stats.checkpoints);
        count(
            series,
            "store_replayed_batches_total",
            "Batches that recovery replayed",
            stats.replayed_batches,
        );
        count(
            series,
            "store_recovery_read_bytes_total",
            "Bytes that recovery read",
            stats.recovery_read_bytes,
        );
        gauge(series, "store_mapped_bytes", "Bytes of mapped blocks", stats.mapped_bytes);
        gauge(series, "store_live_bytes", "Bytes of live blocks and map pages in the logs", stats.live_bytes);
        count_map(series, &stats);
        for image in images {
            add_usage(&mut counters.usage, *image, usage_of(shard, *image));
        }
    }
    counters
}

/// What an image uses of a shard.
fn usage_of<B: Buffer>(shard: &Shard<B>, image: VolumeId) -> VolumeUsage {
    VolumeUsage {
        logical_used_bytes: shard.mapped_bytes(image),
        physical_used_bytes: shard.stored_bytes(image),
        owned_bytes: shard.owned_at_most(image, 0),
        shares: shard.shares(image),
        user_written_bytes: shard.written_bytes(image),
    }
}

/// What the map as a cache has come to.
fn count_map(series: &mut Vec<Series>, stats: &store::ShardStats) {
    gauge(series, "store_map_bytes", "Bytes of the maps in memory", stats.map_bytes);
    count(series, "store_map_hits_total", "Leaves of the maps that were found in memory", stats.map_hits);
    count(
        series,
        "store_map_misses_total",
        "Leaves of the maps that had to come from the drives",
        stats.map_misses,
    );
    count(series, "store_map_reads_total", "Reads of leaves of the maps", stats.map_reads);
    count(series, "store_map_evictions_total", "Leaves of the maps that left memory", stats.map_evictions);
    count(series, "store_map_errors_total", "Leaves of the maps that could not be read", stats.map_errors);
}

/// Adds `more` to `sum`.
pub(crate) fn add(sum: &mut Counters, more: Counters) {
    for series in more.series {
        add_series(&mut sum.series, series);
    }
    for (drive, count) in more.checksum_errors {
        *sum.checksum_errors.entry(drive).or_default() += count;
    }
    for (volume, usage) in more.usage {
        add_usage(&mut sum.usage, volume, usage);
    }
    sum.live_bytes += more.live_bytes;
    sum.data_bytes += more.data_bytes;
    sum.stored_bytes += more.stored_bytes;
    sum.device_written_bytes += more.device_written_bytes;
    sum.host_written_bytes += more.host_written_bytes;
}

/// Adds what the desk counts.
pub(crate) fn add_desk<B: Buffer>(series: &mut Vec<Series>, desk: &Desk<B>) {
    add_commands(series, "admin", desk.commands());
    add_transport(series, desk.transport());
    gauge(
        series,
        "nvme_associations",
        "Hosts' associations with I/O controllers",
        desk.hosts().count() as u64,
    );
}

fn add_commands(series: &mut Vec<Series>, queue: &str, commands: &CommandCounts) {
    for opcode in 0..=u8::MAX {
        for class in StatusClass::ALL {
            let value = commands.of(opcode, class);
            if value > 0 {
                let labels =
                    format!("opcode=\"{opcode:#04x}\",queue=\"{queue}\",status=\"{}\"", class.label());
                push(
                    series,
                    "nvme_commands_total",
                    "Commands by opcode and class of status",
                    true,
                    labels,
                    value,
                );
            }
        }
    }
}

fn add_transport(series: &mut Vec<Series>, stats: &TransportStats) {
    count(
        series,
        "nvme_connections_opened_total",
        "Connections that were accepted",
        stats.connections_opened,
    );
    count(series, "nvme_connections_closed_total", "Connections that ended", stats.connections_closed);
    count(series, "nvme_protocol_errors_total", "Connections ended by C2HTermReq", stats.protocol_errors);
    count(series, "nvme_deadlines_missed_total", "Connections ended by a deadline", stats.deadlines_missed);
    count(series, "nvme_data_digest_errors_total", "Data digests that were wrong", stats.data_digest_errors);
    count(series, "nvme_pdus_received_total", "PDUs received", stats.pdus_received);
    count(
        series,
        "nvme_payload_received_bytes_total",
        "Bytes of payload received",
        stats.payload_received_bytes,
    );
    count(series, "nvme_payload_sent_bytes_total", "Bytes of payload sent", stats.payload_sent_bytes);
    count(
        series,
        "nvme_payload_copied_bytes_total",
        "Bytes of received payload copied",
        stats.payload_copied_bytes,
    );
    count(series, "nvme_memory_waits_total", "Times that a connection waited for memory", stats.memory_waits);
}

fn count(series: &mut Vec<Series>, name: &'static str, help: &'static str, value: u64) {
    push(series, name, help, true, String::new(), value);
}

fn gauge(series: &mut Vec<Series>, name: &'static str, help: &'static str, value: u64) {
    push(series, name, help, false, String::new(), value);
}

fn push(
    series: &mut Vec<Series>,
    name: &'static str,
    help: &'static str,
    counter: bool,
    labels: String,
    value: u64,
) {
    add_series(series, Series { name, help, counter, labels, value: value as f64 });
}

fn add_series(sum: &mut Vec<Series>, more: Series) {
    match sum.iter_mut().find(|series| series.name == more.name && series.labels == more.labels) {
        Some(series) => series.value += more.value,
        None => sum.push(more),
    }
}

fn add_usage(sum: &mut Vec<(VolumeId, VolumeUsage)>, volume: VolumeId, more: VolumeUsage) {
    match sum.binary_search_by_key(&volume, |(id, _)| *id) {
        Ok(place) => {
            let usage = &mut sum[place].1;
            usage.logical_used_bytes += more.logical_used_bytes;
            usage.physical_used_bytes += more.physical_used_bytes;
            usage.owned_bytes += more.owned_bytes;
            usage.shares |= more.shares;
            usage.user_written_bytes += more.user_written_bytes;
        }
        Err(place) => sum.insert(place, (volume, more)),
    }
}
