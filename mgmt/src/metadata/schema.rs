//! The schema: what records there are and what their keys mean, by version, and the way from each version to the next.
//!
//! Both stores keep the version beside the records. An older one is brought up to date by one commit; a newer one is
//! refused, because nobody can tell what it means.

use serde_json::Value;

use super::{Change, Expect, Kind, Record, StoreError};

/// Version 1: the kinds cluster, credential, project. Version 2: all kinds of [`Kind`] but uses of projects. Version 3:
/// clusters by node. Version 4: uses of projects, which a program that does not know them would not heed.
pub(super) const VERSION: u64 = 4;

/// What brings `records` of version `found` to [`VERSION`].
pub(super) fn upgrade(found: u64, records: &[Record]) -> Result<Vec<Change>, StoreError> {
    match found {
        0 => Err(StoreError::Schema { found, known: VERSION }),
        // Version 2 has more kinds of records, in the same form.
        1 | 2 => Ok(key_clusters_by_node(records)),
        // Each server notes its own uses at its start.
        3 | VERSION => Ok(Vec::new()),
        found => Err(StoreError::Schema { found, known: VERSION }),
    }
}

/// Up to version 2 there was one record of the kind, with an empty key.
fn key_clusters_by_node(records: &[Record]) -> Vec<Change> {
    let found = records.iter().find(|record| record.kind == Kind::Cluster && record.key.is_empty());
    let Some(found) = found else { return Vec::new() };
    let mut changes = vec![Change::delete(Kind::Cluster, "")];
    let node = serde_json::from_slice::<Value>(&found.value).ok();
    // One that cannot be read says nothing: the next start writes it anew.
    if let Some(node) = node.as_ref().and_then(|value| value["node_uuid"].as_str()) {
        changes.push(Change {
            kind: Kind::Cluster,
            key: node.to_owned(),
            expect: Expect::Absent,
            value: Some(found.value.clone()),
        });
    }
    changes
}

#[cfg(test)]
mod test {
    use super::*;

    fn cluster(key: &str, value: &str) -> Record {
        Record { kind: Kind::Cluster, key: key.to_owned(), revision: 1, value: value.as_bytes().to_vec() }
    }

    #[test]
    fn a_cluster_of_version_2_gets_its_node_as_key() {
        let text = r#"{"uuid":"c","node_uuid":"n"}"#;
        for version in [1, 2] {
            let changes = upgrade(version, &[cluster("", text)]).unwrap();
            let keys: Vec<(&str, bool)> =
                changes.iter().map(|change| (change.key.as_str(), change.value.is_some())).collect();
            assert_eq!(keys, [("", false), ("n", true)]);
        }
        assert_eq!(upgrade(2, &[cluster("", "broken")]).unwrap().len(), 1);
        assert!(upgrade(2, &[]).unwrap().is_empty());
        for version in [3, VERSION] {
            assert!(upgrade(version, &[cluster("n", text)]).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for found in [0, VERSION + 1, u64::MAX] {
            let error = upgrade(found, &[]).unwrap_err();
            assert!(matches!(error, StoreError::Schema { known: VERSION, .. }), "{error}");
        }
    }
}
