//! Schedules of snapshots: when one is due, decided without a clock of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::metadata::{Kept, Kind};
use crate::rest::schema::{duration_s, time_ns};

/// A schedule as it is kept.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Schedule {
    /// Its identity and key.
    pub(crate) uuid: String,
    /// Its name in the project.
    pub(crate) name: String,
    /// The volume.
    pub(crate) resource_uuid: String,
    /// The volume's name when the schedule was made.
    pub(crate) resource_name: String,
    /// The project of both.
    pub(crate) project_name: String,
    /// When, and for how long.
    pub(crate) policy: SchedulePolicy,
    /// What people say of it.
    pub(crate) description: String,
    /// The contract's state.
    pub(crate) state: String,
    /// Up to when everything due has been taken.
    pub(crate) taken_ns: u64,
    /// The node whose pool has the volume, and which takes the snapshots.
    #[serde(default)]
    pub(crate) node: String,
}

/// When snapshots are taken, and for how long they are kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SchedulePolicy {
    #[serde(rename = "snapshotSchedulePolicy", skip_serializing_if = "Option::is_none")]
    snapshots: Option<Cycles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_time: Option<String>,
}

/// One of three kinds of cycles.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Cycles {
    #[serde(rename = "hourlySchedule", skip_serializing_if = "Option::is_none")]
    hourly: Option<Hourly>,
    #[serde(rename = "dailySchedule", skip_serializing_if = "Option::is_none")]
    daily: Option<Daily>,
    #[serde(rename = "weeklySchedule", skip_serializing_if = "Option::is_none")]
    weekly: Option<Weekly>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Hourly {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    hours_in_cycle: u32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Daily {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    days_in_cycle: u32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Weekly {
    days_of_week: Vec<Day>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Day {
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    day: String,
}

impl Kept for Schedule {
    const KIND: Kind = Kind::Schedule;

    fn key(&self) -> String {
        self.uuid.clone()
    }
}

impl Schedule {
    /// The newest time at which a snapshot is due and has not been taken; those before it are not made up for.
    pub(crate) fn due(&self, now_ns: u64) -> Option<u64> {
        let cycles = self.policy.cycles();
        let newest = cycles.iter().filter_map(|cycle| cycle.newest(now_ns)).max()?;
        (newest > self.taken_ns).then_some(newest)
    }

    /// Whether what was taken lies ahead of `now_ns`: the clock was ahead when that was noted, and was set right since.
    ///
    /// Nothing would be due until then. Small steps back are usual, and pass by themselves.
    pub(crate) fn is_ahead(&self, now_ns: u64) -> bool {
        self.taken_ns > now_ns.saturating_add(STEP_BACK_NS_MAX)
    }

    /// The name of the snapshot that is due at `due_ns`.
    pub(crate) fn snapshot_name(&self, due_ns: u64) -> String {
        let time = crate::rest::timestamp(due_ns - due_ns % NS).replace([':', '-'], "");
        let room = 253_usize.saturating_sub(time.len() + 1);
        let name: String = self.name.chars().take(room).collect();
        format!("{name}-{time}")
    }

    /// What clients read.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "UUID": self.uuid,
            "name": self.name,
            "resourceUUID": self.resource_uuid,
            "resourceName": self.resource_name,
            "projectName": self.project_name,
            "schedulePolicy": self.policy,
            "description": self.description,
            "state": self.state,
        })
    }
}

impl SchedulePolicy {
    /// For how long snapshots are kept; none is for ever.
    pub(crate) fn retention_s(&self) -> Option<u64> {
        self.retention_time.as_deref().and_then(duration_s).filter(|seconds| *seconds > 0)
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let Some(snapshots) = &self.snapshots else { return Err("snapshotSchedulePolicy is required") };
        let kinds = [snapshots.hourly.is_some(), snapshots.daily.is_some(), snapshots.weekly.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err("exactly one of hourlySchedule, dailySchedule, weeklySchedule");
        }
        if snapshots.hourly.as_ref().is_some_and(|hourly| !(1..=CYCLE_MAX).contains(&hourly.hours_in_cycle)) {
            return Err("hoursInCycle: 1 to 8784");
        }
        if snapshots.daily.as_ref().is_some_and(|daily| !(1..=CYCLE_MAX).contains(&daily.days_in_cycle)) {
            return Err("daysInCycle: 1 to 8784");
        }
        if let Some(weekly) = &snapshots.weekly {
            if !(1..=28).contains(&weekly.days_of_week.len()) {
                return Err("daysOfWeek: 1 to 28 entries");
            }
            if weekly.days_of_week.iter().any(|day| weekday(&day.day).is_none()) {
                return Err("daysOfWeek.day: Sunday to Saturday");
            }
        }
        Ok(())
    }

    fn cycles(&self) -> Vec<Cycle> {
        let start = |text: &Option<String>| text.as_deref().and_then(time_ns).unwrap_or_default();
        let Some(snapshots) = &self.snapshots else { return Vec::new() };
        let mut cycles = Vec::new();
        if let Some(hourly) = &snapshots.hourly {
            let step_ns = u64::from(hourly.hours_in_cycle) * HOUR_NS;
            cycles.push(Cycle { start_ns: start(&hourly.start_time), step_ns });
        }
        if let Some(daily) = &snapshots.daily {
            let step_ns = u64::from(daily.days_in_cycle) * DAY_NS;
            cycles.push(Cycle { start_ns: start(&daily.start_time), step_ns });
        }
        for day in snapshots.weekly.iter().flat_map(|weekly| &weekly.days_of_week) {
            let begin_ns = start(&day.start_time);
            let today = weekday_of(begin_ns);
            let ahead = weekday(&day.day).unwrap_or_default() + 7 - today;
            cycles.push(Cycle { start_ns: begin_ns + ahead % 7 * DAY_NS, step_ns: 7 * DAY_NS });
        }
        cycles
    }
}

/// `start`, `start + step`, and so on.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    start_ns: u64,
    step_ns: u64,
}

impl Cycle {
    fn newest(self, now_ns: u64) -> Option<u64> {
        let since = now_ns.checked_sub(self.start_ns)?;
        let steps = since.checked_div(self.step_ns)?;
        Some(self.start_ns + steps * self.step_ns)
    }
}

/// Days from Sunday.
fn weekday(name: &str) -> Option<u64> {
    let days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    days.iter().position(|day| *day == name).map(|day| day as u64)
}

/// 1970-01-01 was a Thursday.
fn weekday_of(time_ns: u64) -> u64 {
    (time_ns / DAY_NS + 4) % 7
}

const NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3600 * NS;
const DAY_NS: u64 = 24 * HOUR_NS;
/// How far a clock may step back before schedules go by what it says then.
const STEP_BACK_NS_MAX: u64 = 300 * NS;
/// A year of hours.
const CYCLE_MAX: u32 = 8784;

#[cfg(test)]
mod test {
    use super::*;

    fn schedule(policy: Value, taken: &str) -> Schedule {
        Schedule {
            uuid: String::new(),
            name: "nightly".to_owned(),
            resource_uuid: String::new(),
            resource_name: String::new(),
            project_name: String::new(),
            policy: serde_json::from_value(json!({"snapshotSchedulePolicy": policy})).unwrap(),
            description: String::new(),
            state: String::new(),
            taken_ns: time_ns(taken).unwrap(),
            node: String::new(),
        }
    }

    #[track_caller]
    fn expect(policy: &Value, taken: &str, now: &str, due: Option<&str>) {
        let due = due.map(|text| time_ns(text).unwrap());
        assert_eq!(schedule(policy.clone(), taken).due(time_ns(now).unwrap()), due, "{taken} {now}");
    }

    #[test]
    fn hours_are_counted_from_the_start() {
        let policy = json!({"hourlySchedule": {"startTime": "2026-01-01T00:30:00Z", "hoursInCycle": 6}});
        let taken = "2026-01-01T00:00:00Z";
        expect(&policy, taken, "2026-01-01T00:29:59Z", None);
        expect(&policy, taken, "2026-01-01T00:30:00Z", Some("2026-01-01T00:30:00Z"));
        expect(&policy, "2026-01-01T00:30:00Z", "2026-01-01T06:29:59Z", None);
        expect(&policy, "2026-01-01T00:30:00Z", "2026-01-02T00:00:00Z", Some("2026-01-01T18:30:00Z"));
    }

    #[test]
    fn a_clock_was_ahead_when_more_than_minutes_are_missing() {
        let one = schedule(json!({"hourlySchedule": {"hoursInCycle": 1}}), "2026-01-01T01:00:00Z");
        let is_ahead = |now: &str| one.is_ahead(time_ns(now).unwrap());
        assert!(!is_ahead("2026-01-01T02:00:00Z") && !is_ahead("2026-01-01T00:55:00Z"));
        assert!(is_ahead("2026-01-01T00:54:59Z") && !one.is_ahead(u64::MAX));
    }

    #[test]
    fn days_are_counted_from_the_start() {
        let policy = json!({"dailySchedule": {"startTime": "2026-01-01T02:00:00Z", "daysInCycle": 2}});
        expect(&policy, "2026-01-01T02:00:00Z", "2026-01-03T01:59:59Z", None);
        expect(&policy, "2026-01-01T02:00:00Z", "2026-01-03T02:00:00Z", Some("2026-01-03T02:00:00Z"));
    }

    #[test]
    fn weekdays_come_at_their_time_of_day() {
        // 2026-01-01 is a Thursday.
        let day = |day: &str| json!({"day": day, "startTime": "2026-01-01T03:00:00Z"});
        let policy = json!({"weeklySchedule": {"daysOfWeek": [day("Sunday"), day("Wednesday")]}});
        let taken = "2026-01-01T00:00:00Z";
        expect(&policy, taken, "2026-01-04T02:59:59Z", None);
        expect(&policy, taken, "2026-01-04T03:00:00Z", Some("2026-01-04T03:00:00Z"));
        expect(&policy, "2026-01-04T03:00:00Z", "2026-01-07T03:00:00Z", Some("2026-01-07T03:00:00Z"));
        expect(&policy, "2026-01-07T03:00:00Z", "2026-01-11T03:00:00Z", Some("2026-01-11T03:00:00Z"));
    }

    #[test]
    fn wrong_schedules_are_refused() {
        for policy in [
            json!({}),
            json!({"hourlySchedule": {}}),
            json!({"hourlySchedule": {"hoursInCycle": 0}}),
            json!({"dailySchedule": {"daysInCycle": 100_000}}),
            json!({"weeklySchedule": {}}),
            json!({"weeklySchedule": {"daysOfWeek": [{"day": "DayOfWeekUnspecified"}]}}),
            json!({"hourlySchedule": {"hoursInCycle": 1}, "dailySchedule": {"daysInCycle": 1}}),
        ] {
            assert!(schedule(policy.clone(), "2026-01-01T00:00:00Z").policy.check().is_err(), "{policy}");
        }
        assert!(SchedulePolicy::default().check().is_err());
        let kept = SchedulePolicy { retention_time: Some("3600s".to_owned()), ..SchedulePolicy::default() };
        assert_eq!(kept.retention_s(), Some(3600));
    }

    #[test]
    fn names_of_snapshots_say_when() {
        let policy = json!({"hourlySchedule": {"hoursInCycle": 1}});
        let name =
            schedule(policy, "2026-01-01T00:00:00Z").snapshot_name(time_ns("2026-01-01T03:00:00Z").unwrap());
        assert_eq!(name, "nightly-20260101T030000Z");
    }
}
