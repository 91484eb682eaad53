//! Deletes snapshots whose retention time is over.

use std::rc::Rc;
use std::time::Duration;

use dataplane::{Action, ActionError, Outcome, Snapshot, VolumeState};
use time::OffsetDateTime;

use super::super::Api;

/// Looks for snapshots that are due, for as long as the server runs.
pub(crate) async fn retain(api: Rc<Api>) {
    loop {
        let wait = match api.plane.ask(Action::ListSnapshots).await {
            Ok(Outcome::Snapshots(snapshots)) => delete_due(&api, &snapshots).await,
            Err(ActionError::Stopping) => return,
            Ok(_) | Err(_) => LOOK_LEAST_OFTEN,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Deletes what is due; how long to wait for what is due next.
async fn delete_due(api: &Api, snapshots: &[Snapshot]) -> Duration {
    let now_ns = OffsetDateTime::now_utc().unix_timestamp_nanos();
    let mut wait = LOOK_LEAST_OFTEN;
    for snapshot in snapshots {
        let Some(due_ns) = due_ns(snapshot) else { continue };
        let left = due_ns - now_ns;
        if left > 0 {
            // Times may be of thousands of years, far more than 64 bits of nanoseconds.
            wait = wait.min(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)));
            continue;
        }
        let uuid = snapshot.spec.uuid;
        match api.plane.ask(Action::DeleteSnapshot { uuid, if_revision: None }).await {
            Ok(_) => tracing::info!(name = snapshot.spec.name, "the snapshot's retention time is over"),
            // A change that needs the snapshot is under way, or somebody else was faster: the next look tells.
            Err(error) => tracing::debug!(name = snapshot.spec.name, %error, "the snapshot stays for now"),
        }
        wait = wait.min(LOOK_MOST_OFTEN);
    }
    wait.max(LOOK_MOST_OFTEN)
}

/// When a snapshot is to be deleted, in nanoseconds since 1970; none if it is kept, or is being deleted already.
fn due_ns(snapshot: &Snapshot) -> Option<i128> {
    let kept = snapshot.spec.retention_s == 0 || snapshot.state == VolumeState::Deleting;
    let life_ns = i128::from(snapshot.spec.retention_s) * 1_000_000_000;
    (!kept).then(|| i128::from(snapshot.created_unix_ns) + life_ns)
}

const LOOK_LEAST_OFTEN: Duration = Duration::from_secs(5);
const LOOK_MOST_OFTEN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod test {
    use serde_json::json;

    use super::*;
    use crate::rest::test::{Bench, bench};

    async fn list(bench: &Bench) -> Vec<Snapshot> {
        match bench.api.plane.ask(Action::ListSnapshots).await {
            Ok(Outcome::Snapshots(snapshots)) => snapshots,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_goes_when_its_time_is_over_however_long_that_is() {
        bench(async |bench| {
            bench.create("v").await;
            // The last two are longer than 2^64 ns, one of them as long as the contract has it.
            let times =
                [("for-ever", "0s"), ("hour", "1h"), ("long", "20000000000s"), ("longest", "315576000000s")];
            for (name, time) in times {
                let body = json!({"name": name, "sourceVolumeName": "v", "retentionTime": time}).to_string();
                let path = "/api/v2/projects/default/snapshots";
                let made = bench.send(&bench.admin, "POST", path, Some(&body)).await;
                assert_eq!(made.status, 200, "{}", made.text);
            }
            delete_due(&bench.api, &list(&bench).await).await;
            let left = list(&bench).await;
            let mut left: Vec<&str> = left.iter().map(|snapshot| snapshot.spec.name.as_str()).collect();
            left.sort_unstable();
            assert_eq!(left, ["for-ever", "long", "longest"]);
        });
    }
}
