//! What changed between two snapshots, as REST tells it page by page, cut into batches of a chunk each.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::Value;

use crate::cli::client::{Call, Client, encode};
use crate::cli::failure::Failure;
use crate::image::CHUNK_BLOCKS_MAX;

/// Walks through what changed, in ascending order.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    client: &'a Client,
    /// Path and query but for the offset.
    path: String,
    /// Blocks in front of this one are of no interest.
    from: u64,
    /// Blocks of the snapshot.
    blocks: u64,
    /// Where the next page begins; none once all are read.
    next: Option<u64>,
    runs: VecDeque<Run>,
}

/// Changed blocks side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first_block: u64,
    pub(super) count_blocks: u32,
}

impl<'a> Changes<'a> {
    /// What differs from `base` in `snapshot`, from a block on; without a base, what was ever written.
    pub(super) fn new(
        client: &'a Client,
        snapshot: &str,
        base: Option<&str>,
        from: u64,
        blocks: u64,
    ) -> Self {
        let project = encode(&client.settings.project());
        let base = base.map(|base| format!("baseSnapshotUUID={}&", encode(base))).unwrap_or_default();
        let path = format!("/api/v2/projects/{project}/snapshots/diff/{}?{base}offsetLBA=", encode(snapshot));
        let next = (from < blocks).then_some(from);
        Self { client, path, from, blocks, next, runs: VecDeque::new() }
    }

    /// The next changed blocks, as many as a chunk may have; none at the end.
    pub(super) async fn next_batch(&mut self) -> Result<Vec<Run>, Failure> {
        let mut batch = Vec::new();
        let mut room = CHUNK_BLOCKS_MAX as u32;
        while room > 0 {
            let Some(run) = self.runs.front_mut() else {
                if !self.read_page().await? {
                    break;
                }
                continue;
            };
            let taken = run.count_blocks.min(room);
            batch.push(Run { first_block: run.first_block, count_blocks: taken });
            room -= taken;
            run.first_block += u64::from(taken);
            run.count_blocks -= taken;
            if run.count_blocks == 0 {
                self.runs.pop_front();
            }
        }
        Ok(batch)
    }

    /// Asks for one more page. False at the end.
    async fn read_page(&mut self) -> Result<bool, Failure> {
        let Some(offset) = self.next else { return Ok(false) };
        let answer = self.client.send(Call::new(Method::GET, format!("{}{offset}", self.path))).await?;
        let next = number(&answer["nextOffsetLBA"]).unwrap_or(0);
        self.next = (next > offset && next < self.blocks).then_some(next);
        let ranges = answer["lbaRanges"].as_array().map(Vec::as_slice).unwrap_or_default();
        for range in ranges {
            let wrong = || Failure::Unreadable(format!("a range of changed blocks: {range}"));
            let first = number(&range["lbaStart"]).ok_or_else(wrong)?;
            let bits = range["dataBitMap"].as_str().ok_or_else(wrong)?;
            let bits = STANDARD.decode(bits).map_err(|_| wrong())?;
            self.add(first, &bits);
        }
        Ok(true)
    }

    /// Adds the blocks of a bitmap, the lowest bit of a byte first.
    fn add(&mut self, first: u64, bits: &[u8]) {
        for (at, byte) in bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let block = first + at as u64 * 8 + bit;
                if block < self.from || block >= self.blocks {
                    continue;
                }
                match self.runs.back_mut() {
                    Some(run) if run.first_block + u64::from(run.count_blocks) == block => {
                        run.count_blocks += 1;
                    }
                    _ => self.runs.push_back(Run { first_block: block, count_blocks: 1 }),
                }
                self.from = block + 1;
            }
        }
    }
}

/// A number that the contract has as text.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}
