//! Rollbacks that hosts watch: reads until one shows the snapshot, then writes on whatever queue comes. From that read on
//! every queue must meet the snapshot, wherever its reactor is with the news, and what is written then must stay.

use std::time::Duration;

use store::ShardOptions;

use super::load::Range;
use super::{TargetPlan, TargetReport, TargetTrial};
use crate::model::SECTORS;
use crate::trial::Violation;
use crate::{Faults, Latency};

/// Rollbacks of one run.
const ROLLBACKS: u32 = 6;

/// Stripes of the volume.
const STRIPES: usize = 8;

/// Blocks of a stripe, and those at its start that are used.
const STRIPE_BLOCKS: usize = 256;
const USED_BLOCKS: usize = 4;

/// Runs rollbacks on a plan of [`TargetPlan::of_rollbacks`]; a panic of the code under test is a violation too.
///
/// # Errors
/// The first promise that was broken.
pub fn run_rollbacks(plan: &TargetPlan) -> Result<TargetReport, Violation> {
    let plan = plan.clone();
    crate::trial::catch(move || TargetTrial::new(plan).run_rollbacks())
}

impl TargetPlan {
    /// Drives and connections are quick and mail is slow: between the first reactor that knows of a rollback and the last
    /// there is time for many commands.
    #[must_use]
    pub fn of_rollbacks(seed: u64) -> Self {
        let quick = Latency::fixed(1_000);
        let slow = Latency::fixed(300_000);
        Self {
            reactors: vec![2],
            shards: 4,
            shard_options: ShardOptions {
                flush_bytes: 256 << 10,
                retry: Duration::from_millis(1),
                ..ShardOptions::default()
            },
            faults: Faults { disk_latency: quick, net_latency: quick, mail_latency: slow, ..Faults::none() },
            hosts: 2,
            queues: 2,
            depth: 4,
            volumes: vec![(STRIPES * STRIPE_BLOCKS, true)],
            ..Self::new(seed)
        }
    }
}

impl TargetTrial {
    fn run_rollbacks(mut self) -> Result<TargetReport, Violation> {
        self.begin_life(self.plan.reactors[0])?;
        self.make_volumes()?;
        self.meet_hosts()?;
        self.ask_snapshot(0);
        self.await_changes()?;
        // A first look tells the model what the snapshot holds.
        self.ask_clone(0);
        self.await_changes()?;
        self.await_reads()?;
        for _ in 0..ROLLBACKS {
            for stripe in 0..STRIPES {
                self.ask_write(0, blocks(stripe * STRIPE_BLOCKS, USED_BLOCKS));
                self.rest()?;
            }
            self.ask_rollback(0, 0);
            while !self.changes.is_empty() {
                self.watch();
                self.turn()?;
            }
            self.rest()?;
        }
        self.finish()
    }

    /// Commands of every host, each of one block anywhere.
    fn watch(&mut self) {
        for host in 0..self.hosts.len() {
            if self.open_of(host) < self.plan.depth {
                let stripe = self.random.index(STRIPES);
                let range = blocks(stripe * STRIPE_BLOCKS + self.random.index(USED_BLOCKS), 1);
                if self.volumes[0].is_rolling() {
                    self.ask_read(host, range);
                } else {
                    self.ask_write(host, range);
                }
            }
        }
    }
}

/// Blocks of the volume.
fn blocks(first: usize, count: usize) -> Range {
    Range { volume: 0, first: (first * SECTORS) as u64, count: count * SECTORS }
}
