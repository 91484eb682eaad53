//! Loads from their associations to their reports.

use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use host::Queue;
use io::Time;

use super::admin::{Association, Namespace};
use super::clock::Stopwatch;
use super::cpu;
use super::error::{LoadError, OptionsError};
use super::lane::{Block, Lane, Shape, Tally};
use super::options::LoadOptions;
use super::payload::{Payloads, stamp_seed};
use super::plan::{Plan, scramble};
use super::report::{LoadReport, Measured, Progress, Usage};
use super::worker::{Course, Signals, drive};
use crate::run::unix_nanos;

/// How long after its begin the load's end is noticed at the latest.
const GLANCE: Duration = Duration::from_millis(50);
/// Longest command: NLB is 16 bits, 0's based. NVM command set spec 1.0, section 3.2.
const UNIT_BLOCKS_MAX: u64 = 1 << 16;

/// Runs a load to its end. `progress` is called now and then; when it breaks, the load ends early.
///
/// # Errors
/// See [`LoadError`]. Commands that fail, and data that is wrong, are no errors but in the report.
pub fn run(
    options: &LoadOptions,
    progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<LoadReport, LoadError> {
    let threads = options.threads.unwrap_or(options.queues);
    let mut reports = run_on(std::slice::from_ref(options), threads, progress)?;
    Ok(reports.pop().expect("a report a load"))
}

/// Runs several loads at once, the queues of all on one thread in turn: what one waits for another is the target's
/// doing, and not that of whoever shares a CPU out among threads. Each must be of a host of its own. Times, the way of
/// waiting, the CPU and the interval of progress are the first one's; progress counts all of them.
///
/// # Errors
/// As for [`run`]. One that breaks off ends all.
pub fn run_together(
    loads: &[LoadOptions],
    progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Vec<LoadReport>, LoadError> {
    run_on(loads, 1, progress)
}

/// Runs loads to their end, their queues spread over so many threads.
fn run_on(
    loads: &[LoadOptions],
    threads: u16,
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Vec<LoadReport>, LoadError> {
    let is_none = |load: &LoadOptions| load.queues == 0 || load.threads == Some(0) || load.queue_depth == 0;
    let first = loads.first().filter(|_| !loads.iter().any(is_none)).ok_or(OptionsError::None)?;
    let clock = Stopwatch::start();
    let (mut associations, mut opened) = (Vec::new(), Vec::new());
    for (load, options) in loads.iter().enumerate() {
        associations.push(open(load, options, clock, &mut opened)?);
    }
    let lanes = Lanes::new(loads, opened, usize::from(threads), clock);
    let signals = Signals::default();
    let mut watch = Watch::new(first, &associations, lanes.course, lanes.from);
    let ended = thread::scope(|scope| {
        let signals = &signals;
        let threads: Vec<_> = lanes
            .threads
            .into_iter()
            .enumerate()
            .map(|(index, lanes_of_thread)| {
                let course = Course { cpu: cpu_of(first, index), ..lanes.course };
                scope.spawn(move || drive(lanes_of_thread, course, signals))
            })
            .collect();
        let attended = watch.attend(&mut associations, &threads, signals, &mut progress);
        if attended.is_err() {
            signals.stop.store(true, Ordering::Relaxed);
        }
        let ended =
            threads.into_iter().map(|thread| thread.join().expect("a thread of the load ends in order"));
        let ended: Result<Vec<_>, LoadError> = ended.collect();
        // A queue that broke says more than the association that ended for it.
        let ended = ended?;
        attended.map(|()| ended)
    })?;
    for association in associations {
        if let Err(error) = association.shut_down() {
            // What was measured is no worse for it.
            tracing::warn!(%error, "a controller was not shut down");
        }
    }
    let mut tallies: Vec<Tally> = loads.iter().map(|_| Tally::new()).collect();
    ended.iter().flatten().for_each(|lane| tallies[lane.load()].merge(lane.tally()));
    let measured = watch.measured(tallies.iter().map(Tally::ios).sum());
    Ok(loads.iter().zip(&tallies).map(|(options, tally)| LoadReport::new(options, tally, measured)).collect())
}

/// A queue that is open, before it has a load.
pub(super) struct Opened {
    load: usize,
    lba_bytes: u32,
    qid: u16,
    queue: Queue<Block>,
    socket: TcpStream,
    plan: Plan,
}

/// Opens the association of a load and, onto `opened`, its queues.
pub(super) fn open(
    load: usize,
    options: &LoadOptions,
    clock: Stopwatch,
    opened: &mut Vec<Opened>,
) -> Result<Association, LoadError> {
    let mut association = Association::open(options, clock)?;
    let namespace = association.namespace(options.nsid)?;
    check(options, &association, namespace)?;
    for (qid, plan) in (1..).zip(plans(options, namespace)?) {
        let (queue, socket) = association.open_queue(qid, !options.verify)?;
        opened.push(Opened { load, lba_bytes: namespace.lba_bytes, qid, queue, socket, plan });
    }
    Ok(association)
}

fn check(options: &LoadOptions, association: &Association, namespace: Namespace) -> Result<(), LoadError> {
    let Namespace { lba_bytes, blocks } = namespace;
    let block_bytes = options.block_bytes;
    if block_bytes == 0 || !block_bytes.is_multiple_of(lba_bytes) {
        return Err(OptionsError::BlockSize { block_bytes, lba_bytes }.into());
    }
    let longest = UNIT_BLOCKS_MAX * u64::from(lba_bytes);
    let max_bytes = association.transfer_max_bytes().map_or(longest, |mdts| mdts.min(longest));
    if u64::from(block_bytes) > max_bytes {
        return Err(OptionsError::Transfer { block_bytes, max_bytes }.into());
    }
    let max = association.queue_depth_max();
    if u32::from(options.queue_depth) > max {
        return Err(OptionsError::Depth { queue_depth: options.queue_depth, max }.into());
    }
    let size_bytes = blocks.saturating_mul(u64::from(lba_bytes));
    let range_bytes = options.range_bytes.unwrap_or(0);
    if options.offset_bytes.saturating_add(range_bytes) > size_bytes {
        return Err(OptionsError::Beyond { size_bytes }.into());
    }
    let (granted, wanted) = (association.io_queues(), options.queues);
    if granted < wanted { Err(LoadError::Queues { granted, wanted }) } else { Ok(()) }
}

/// Queues that are ready to run.
pub(super) struct Lanes {
    /// The queues of each thread.
    threads: Vec<Vec<Lane>>,
    course: Course,
    /// When the measurement begins.
    pub(super) from: Time,
}

impl Lanes {
    /// Spreads queues over threads. The time begins when all that they need is there.
    pub(super) fn new(loads: &[LoadOptions], opened: Vec<Opened>, threads: usize, clock: Stopwatch) -> Self {
        let LoadOptions { ramp, time, waiting, .. } = loads[0];
        let run = unix_nanos();
        let count = threads.min(opened.len());
        let mut threads: Vec<Vec<Lane>> = (0..count).map(|_| Vec::new()).collect();
        for (index, Opened { load, lba_bytes, qid, queue, socket, plan }) in opened.into_iter().enumerate() {
            let options = &loads[load];
            let shape = Shape {
                load,
                nsid: options.nsid,
                block_bytes: options.block_bytes as usize,
                unit_blocks: options.block_bytes / lba_bytes,
                queue_depth: options.queue_depth,
                interval: options.rate.map(|rate| {
                    Duration::from_nanos(1_000_000_000 * u64::from(options.queues) / u64::from(rate.max(1)))
                }),
                flush: options.flush,
                verify: options.verify,
                staged: !options.pattern.writes(),
                from: Time(u64::MAX),
                until: Time(u64::MAX),
            };
            let LoadOptions { seed, verify, words_percent, .. } = *options;
            let payloads = Payloads::new(lba_bytes as usize, stamp_seed(seed, run), verify, words_percent);
            threads[index % count].push(Lane::new(qid, queue, socket, shape, plan, payloads));
        }
        let from = clock.now() + ramp;
        let until = from + time;
        for lane in threads.iter_mut().flatten() {
            lane.measure(from, until);
        }
        Self { threads, course: Course { clock, until, waiting, cpu: None }, from }
    }
}

/// One plan a queue. Random loads that are not verified share the range; others divide it.
fn plans(options: &LoadOptions, namespace: Namespace) -> Result<Vec<Plan>, LoadError> {
    let block_bytes = u64::from(options.block_bytes);
    let end_bytes = namespace.blocks.saturating_mul(u64::from(namespace.lba_bytes));
    let range_bytes = options.range_bytes.unwrap_or(end_bytes.saturating_sub(options.offset_bytes));
    let first = options.offset_bytes.div_ceil(block_bytes);
    let units = ((options.offset_bytes + range_bytes) / block_bytes).saturating_sub(first);
    let queues = u64::from(options.queues);
    let divided = options.verify || !options.pattern.is_random();
    let each = if divided { units / queues } else { units };
    let needed = if options.verify { u64::from(options.queue_depth) } else { 1 };
    if each < needed {
        return Err(OptionsError::Range { units }.into());
    }
    let plan = |queue: u64| {
        let first = if divided { first + queue * each } else { first };
        let seed = scramble(options.seed).wrapping_add(queue);
        let plan = Plan::new(options.pattern, options.read_percent, first, each, seed);
        if options.verify { plan.with_ledger() } else { plan }
    };
    Ok((0..queues).map(plan).collect())
}

fn cpu_of(options: &LoadOptions, thread: usize) -> Option<u32> {
    options.cpus.get(thread % options.cpus.len().max(1)).copied()
}

/// Watches loads from the thread that started them.
struct Watch {
    course: Course,
    from: Time,
    began: Time,
    ended: Time,
    interval: Duration,
    load: Watched,
    target: Option<Watched>,
    /// When progress was told the last time, and the commands and bytes until then.
    last: (Time, u64, u64),
}

/// A process that is watched from the begin of the measurement to its end.
struct Watched {
    pid: u32,
    /// Its use of cores and the time at the begin.
    begin: Option<(Duration, Time)>,
    usage: Option<Usage>,
}

impl Watch {
    fn new(options: &LoadOptions, associations: &[Association], course: Course, from: Time) -> Self {
        let is_local = associations.first().is_some_and(Association::is_local);
        let found = || is_local.then(|| cpu::listener(options.target)).flatten();
        let target = options.target_pid.or_else(found).filter(|pid| *pid != std::process::id());
        let now = course.clock.now();
        Self {
            course,
            from,
            began: now,
            ended: course.until,
            interval: options.progress_interval.max(GLANCE),
            load: Watched::new(std::process::id()),
            target: target.map(Watched::new),
            last: (now, 0, 0),
        }
    }

    /// Keeps the associations alive and reports progress until every thread has ended.
    fn attend<T>(
        &mut self,
        associations: &mut [Association],
        threads: &[ScopedJoinHandle<'_, T>],
        signals: &Signals,
        progress: &mut impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), LoadError> {
        loop {
            let now = self.course.clock.now();
            let next = [self.from, self.course.until].into_iter().filter(|edge| *edge > now);
            let turn = next.fold(now + GLANCE, Time::min).since(now) / associations.len().max(1) as u32;
            for association in &mut *associations {
                association.attend(self.course.clock.now() + turn)?;
            }
            let now = self.course.clock.now();
            let stopped = signals.stop.load(Ordering::Relaxed);
            if now >= self.from {
                self.watched().for_each(|watched| watched.begin(now));
            }
            if now >= self.course.until || stopped {
                self.ended = self.ended.min(now);
                self.watched().for_each(|watched| watched.end(now));
            }
            if now.since(self.last.0) >= self.interval && progress(&self.progress(now, signals)).is_break() {
                signals.stop.store(true, Ordering::Relaxed);
            }
            if threads.iter().all(ScopedJoinHandle::is_finished) {
                return Ok(());
            }
        }
    }

    fn watched(&mut self) -> impl Iterator<Item = &mut Watched> {
        [Some(&mut self.load), self.target.as_mut()].into_iter().flatten()
    }

    fn progress(&mut self, now: Time, signals: &Signals) -> Progress {
        let completed = signals.completed.load(Ordering::Relaxed);
        let bytes = signals.bytes.load(Ordering::Relaxed);
        let (then, before, bytes_before) = std::mem::replace(&mut self.last, (now, completed, bytes));
        let seconds = now.since(then).as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Progress {
            elapsed: now.since(self.began),
            completed,
            errors: signals.errors.load(Ordering::Relaxed),
            iops: rate(completed, before),
            bytes_per_second: rate(bytes, bytes_before),
        }
    }

    /// What was measured, shorter than asked for if it was stopped.
    fn measured(self, ios: u64) -> Measured {
        let time = self.ended.since(self.from);
        Measured { time, ios, load: self.load.usage, target: self.target.and_then(|target| target.usage) }
    }
}

impl Watched {
    fn new(pid: u32) -> Self {
        Self { pid, begin: None, usage: None }
    }

    fn begin(&mut self, now: Time) {
        if self.begin.is_none() {
            self.begin = cpu::used(self.pid).map(|used| (used, now));
        }
    }

    fn end(&mut self, now: Time) {
        if let (Some((before, begin)), None, Some(after)) = (self.begin, self.usage, cpu::used(self.pid)) {
            let used = after.saturating_sub(before);
            self.usage = Some(Usage { pid: self.pid, used, watched: now.since(begin) });
        }
    }
}
