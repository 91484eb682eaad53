//! Goal: a limited volume gets its rate and no more, whichever reactors its hosts are on; its neighbour on the same
//! queues does not wait with it; other rates hold at once. All on the world's clock.

use std::time::Duration;

use engine::Limits;

use super::{TargetPlan, TargetTrial};
use crate::model::SECTORS;
use crate::{Faults, Random};

/// Commands of each host that wait or run, for each volume.
const DEPTH: usize = 8;

fn trial(seed: u64, reactors: u16) -> TargetTrial {
    let mut plan = TargetPlan::new(seed);
    plan.reactors = vec![reactors];
    plan.faults = Faults::none();
    plan.hosts = 2;
    plan.queues = 2;
    plan.volumes = vec![(520, true), (520, true)];
    let mut trial = TargetTrial::new(plan);
    trial.begin_life(reactors).expect("a start without faults");
    trial.make_volumes().expect("volumes");
    trial.meet_hosts().expect("hosts");
    trial
}

fn limit(trial: &mut TargetTrial, limits: Limits) {
    trial.ask_limits(0, limits);
    trial.await_changes().expect("an answer");
}

/// Reads from both volumes for a while, as fast as they are served: how many reads of each were completed.
fn read_for(trial: &mut TargetTrial, time: Duration) -> [usize; 2] {
    let mut random = Random::new(7);
    let open = |trial: &TargetTrial, host: usize, volume: usize| {
        trial.open.values().filter(|open| (open.host, open.volume) == (host, volume)).count()
    };
    let mut asked = [0; 2];
    let waiting = [0, 1].map(|volume| open(trial, 0, volume) + open(trial, 1, volume));
    let until = trial.world.now() + time;
    while trial.world.now() < until {
        for host in 0..trial.hosts.len() {
            for (volume, asked) in asked.iter_mut().enumerate() {
                for _ in open(trial, host, volume)..DEPTH {
                    let first = random.below(512) * SECTORS as u64;
                    *asked += usize::from(trial.ask_peek(host, volume, first, SECTORS));
                }
            }
        }
        trial.turn().expect("no promise is broken");
    }
    [0, 1].map(|volume| waiting[volume] + asked[volume] - open(trial, 0, volume) - open(trial, 1, volume))
}

#[test]
fn a_limited_volume_gets_its_rate_and_its_neighbour_all_it_wants() {
    for (seed, reactors) in [(1, 1), (2, 2), (3, 3)] {
        let mut trial = trial(seed, reactors);
        limit(&mut trial, Limits { read_ios: 1000, ..Limits::default() });
        let [limited, free] = read_for(&mut trial, Duration::from_secs(1));
        // The burst, and a slice for each reactor.
        assert!((990..=1040).contains(&limited), "seed {seed}: {limited} of 1000 with {reactors} reactors");
        assert!(free > 5 * limited, "seed {seed}: the neighbour got {free}");
    }
}

#[test]
fn bytes_are_limited_like_commands_and_a_new_limit_holds_for_what_waits() {
    let mut trial = trial(4, 2);
    limit(&mut trial, Limits { read_bytes: 4096 * 500, ..Limits::default() });
    let [limited, _] = read_for(&mut trial, Duration::from_secs(1));
    assert!((480..=530).contains(&limited), "{limited} of 500");
    // Half of what one waiting command needs is there at the change; all of them go on by the new rate.
    limit(&mut trial, Limits { read_ios_per_gib: 1_000_000, ..Limits::default() });
    let [limited, _] = read_for(&mut trial, Duration::from_millis(500));
    let rate = 1_000_000 * 520 * 4096 / (1 << 30);
    assert!((rate / 2 - 20..=rate / 2 + 60).contains(&limited), "{limited} of {}", rate / 2);
    limit(&mut trial, Limits::default());
    let [first, second] = read_for(&mut trial, Duration::from_millis(100));
    assert!(first * 2 > second, "{first} and {second} without a limit");
}
