//! Giving back what was cut off or dropped, single claims: how much of it one turn does.

use super::world::{World, small_options};
use crate::shard::{Op, ShardOptions};

/// Leaves of the volume, each full.
const LEAVES: u64 = 48;
const SECTORS: u64 = LEAVES * 64 * 8;

/// Goal: however large the range, no turn gives back more than its share, the answer does not wait for it, and what comes
/// in between is served in between.
#[test]
fn a_huge_range_is_given_back_in_turns_of_bounded_work() {
    let mut world = World::new(1, 200, small_options());
    let share = u64::from(world.options.drop_pages_per_run);
    for first in (0..SECTORS).step_by(128) {
        world.write(1, first, first + 128, false);
        while world.issued.len() > 8 {
            world.step();
        }
    }
    world.write(2, 0, 8, false);
    assert!(world.drain());
    world.zero(1, 0, SECTORS, Op::Deallocate);
    assert!(world.drain());
    assert!(world.shard.map.is_dropping(), "the answer has waited for what it need not wait for");
    let before = world.shard.map.pages();
    let (mut turns, mut served) = (0, 0);
    while world.shard.map.is_dropping() {
        let (pages, blocks) = (world.shard.map.pages(), world.shard.space.blocks.count);
        if world.issued.is_empty() {
            served += 1;
            world.read(2, 0, 8);
        }
        world.step();
        turns += 1;
        assert!(pages - world.shard.map.pages() <= share, "{turns} turns");
        assert!(blocks - world.shard.space.blocks.count <= share * 64, "{turns} turns");
    }
    assert!(before - world.shard.map.pages() >= LEAVES - 1, "{before} pages, of which few are gone");
    assert!(turns >= LEAVES / share && served > 5, "{turns} turns, {served} reads");
    assert!(world.drain());
    assert_eq!(world.shard.space.blocks.count, 1);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
}

#[test]
fn one_turn_gives_back_at_most_a_thousand_blocks() {
    assert!(ShardOptions::default().drop_pages_per_run * 64 <= 1024);
}
