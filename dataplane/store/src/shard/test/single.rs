//! Single claims, each with a world of its own.

use super::world::{World, small_options};

#[test]
fn a_lone_write_costs_two_blocks_of_the_device() {
    let mut world = World::new(1, 100, small_options());
    world.write(1, 0, 8, false);
    assert!(world.drain());
    let (writes, bytes) = (world.disk.writes, world.disk.written_bytes);
    world.write(1, 8, 16, false);
    assert!(world.drain());
    assert_eq!(world.disk.writes - writes, 1);
    assert_eq!(world.disk.written_bytes - bytes, 8192);
}
