//! Chooses cores for reactors: a plan from a list of CPUs, without looking at the machine.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cpu, Placement};

/// More reactors than a pool has shards by default would leave some without work.
const REACTORS_AUTO_MAX: usize = 16;

/// Which cores shall run reactors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// One reactor for each physical core but one, which is left for management; at least one, at most 16.
    #[default]
    Auto,
    /// So many, the best cores first.
    Count(u16),
    /// Exactly these logical CPUs.
    List(Vec<u32>),
}

/// The cores that were asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// No reactor at all.
    #[error("at least one reactor is needed")]
    None,
    /// A CPU was named twice.
    #[error("CPU {cpu} is named twice; a reactor needs a CPU to itself")]
    Twice {
        /// The CPU.
        cpu: u32,
    },
    /// More than there are.
    #[error(
        "{wanted} reactors need as many CPUs, but this process may use only {allowed}: ask for fewer, or widen its CPU set"
    )]
    TooMany {
        /// How many were asked for.
        wanted: usize,
        /// How many CPUs there are.
        allowed: usize,
    },
    /// A CPU that this process may not use.
    #[error("CPU {cpu} is not one that this process may use; allowed are {allowed:?}")]
    Unknown {
        /// The CPU.
        cpu: u32,
        /// Those that may be used.
        allowed: Vec<u32>,
    },
}

pub(super) fn choose(cpus: &[Cpu], cores: &Cores, near: &[u32]) -> Result<Placement, PlacementError> {
    let reactors = match cores {
        Cores::Auto => {
            let best = in_order(cpus, near);
            let physical = cpus.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len();
            let count = physical.saturating_sub(1).clamp(1, REACTORS_AUTO_MAX);
            best[..count.min(best.len())].to_vec()
        }
        Cores::Count(0) => return Err(PlacementError::None),
        Cores::Count(count) => {
            let wanted = usize::from(*count);
            if wanted > cpus.len() {
                return Err(PlacementError::TooMany { wanted, allowed: cpus.len() });
            }
            in_order(cpus, near)[..wanted].to_vec()
        }
        Cores::List(list) => listed(cpus, list)?,
    };
    if reactors.is_empty() {
        return Err(PlacementError::None);
    }
    let all = || cpus.iter().map(|cpu| cpu.number);
    let mut others: Vec<u32> =
        all().filter(|number| reactors.iter().all(|taken| taken.number != *number)).collect();
    if others.is_empty() {
        others = all().collect();
    }
    let nodes = cpus.iter().map(|cpu| cpu.node).collect::<BTreeSet<_>>().len();
    Ok(Placement { reactors, others, nodes })
}

/// Best first: a CPU of every physical core before second ones, those near drives before others, and the first core of
/// all last, because that is where the system's own interrupts and the management thread are. The nodes in `near` take
/// turns, so that each has reactors before one has many.
fn in_order(cpus: &[Cpu], near: &[u32]) -> Vec<Cpu> {
    let first_core = cpus.iter().min_by_key(|cpu| cpu.number).map(|cpu| cpu.core);
    let mut seen = BTreeSet::new();
    let mut ranked: Vec<_> = cpus
        .iter()
        .map(|cpu| {
            let is_second = !seen.insert(cpu.core);
            let place = near.iter().position(|node| *node == cpu.node);
            let is_far = place.is_none() && !near.is_empty();
            let is_first_core = first_core == Some(cpu.core);
            ((is_second, is_far, is_first_core), place, *cpu)
        })
        .collect();
    ranked.sort_by_key(|(rank, _, cpu)| (*rank, cpu.number));
    let mut turns = BTreeMap::new();
    let mut in_turn: Vec<_> = ranked
        .into_iter()
        .map(|(rank, place, cpu)| {
            // What has no drive has no turn: there, neighbours follow each other.
            let turn = place.map_or(0, |place| {
                let next: &mut u32 = turns.entry((rank, place)).or_default();
                *next += 1;
                *next
            });
            ((rank, turn, place, cpu.number), cpu)
        })
        .collect();
    in_turn.sort_by_key(|(rank, _)| *rank);
    in_turn.into_iter().map(|(_, cpu)| cpu).collect()
}

fn listed(cpus: &[Cpu], list: &[u32]) -> Result<Vec<Cpu>, PlacementError> {
    let mut seen = BTreeSet::new();
    list.iter()
        .map(|number| {
            if !seen.insert(*number) {
                return Err(PlacementError::Twice { cpu: *number });
            }
            cpus.iter().find(|cpu| cpu.number == *number).copied().ok_or_else(|| PlacementError::Unknown {
                cpu: *number,
                allowed: cpus.iter().map(|cpu| cpu.number).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cores` physical cores with two CPUs each, the second ones numbered behind all first ones, half on each node.
    fn machine(cores: u32) -> Vec<Cpu> {
        (0..2 * cores)
            .map(|number| {
                let core = number % cores;
                Cpu { number, core, node: u32::from(core >= cores / 2) }
            })
            .collect()
    }

    fn numbers(placement: &Placement) -> Vec<u32> {
        placement.reactors.iter().map(|cpu| cpu.number).collect()
    }

    #[test]
    fn physical_cores_near_the_drive_come_first_and_one_is_left() {
        let placement = choose(&machine(4), &Cores::Auto, &[1]).unwrap();
        assert_eq!(numbers(&placement), [2, 3, 1]);
        assert!(placement.others.contains(&0));
        assert_eq!(placement.nodes, 2);
    }

    #[test]
    fn nodes_that_have_drives_take_turns() {
        let machine = machine(8);
        assert_eq!(numbers(&choose(&machine, &Cores::Count(2), &[1, 0]).unwrap()), [4, 1]);
        assert_eq!(numbers(&choose(&machine, &Cores::Count(2), &[0, 1]).unwrap()), [1, 4]);
        assert_eq!(numbers(&choose(&machine, &Cores::Auto, &[0, 1]).unwrap()), [1, 4, 2, 5, 3, 6, 7]);
        assert_eq!(numbers(&choose(&machine, &Cores::Count(5), &[0]).unwrap()), [1, 2, 3, 0, 4]);
    }

    #[test]
    fn second_cpus_of_a_core_come_after_all_first_ones() {
        let placement = choose(&machine(2), &Cores::Count(4), &[]).unwrap();
        assert_eq!(numbers(&placement), [1, 0, 3, 2]);
        assert_eq!(placement.others, [0, 1, 2, 3]);
    }

    #[test]
    fn two_cores_run_one_reactor_unless_told_otherwise() {
        let cpus: Vec<_> = (0..2).map(|number| Cpu { number, core: number, node: 0 }).collect();
        assert_eq!(numbers(&choose(&cpus, &Cores::Auto, &[]).unwrap()), [1]);
        assert_eq!(numbers(&choose(&cpus[..1], &Cores::Auto, &[]).unwrap()), [0]);
        assert_eq!(numbers(&choose(&cpus, &Cores::Count(2), &[]).unwrap()), [1, 0]);
        assert_eq!(numbers(&choose(&cpus, &Cores::List(vec![0]), &[]).unwrap()), [0]);
    }

    #[test]
    fn what_cannot_be_had_is_refused_clearly() {
        let cpus = machine(2);
        assert_eq!(choose(&cpus, &Cores::Count(0), &[]), Err(PlacementError::None));
        assert_eq!(choose(&cpus, &Cores::List(Vec::new()), &[]), Err(PlacementError::None));
        let error = choose(&cpus, &Cores::Count(5), &[]).unwrap_err();
        assert_eq!(error, PlacementError::TooMany { wanted: 5, allowed: 4 });
        let error = choose(&cpus, &Cores::List(vec![1, 9]), &[]).unwrap_err();
        assert_eq!(error, PlacementError::Unknown { cpu: 9, allowed: vec![0, 1, 2, 3] });
        let error = choose(&cpus, &Cores::List(vec![1, 1]), &[]).unwrap_err();
        assert_eq!(error, PlacementError::Twice { cpu: 1 });
    }
}
