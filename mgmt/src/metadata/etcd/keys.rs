//! The names of our keys in etcd.

use super::super::Kind;

/// Names keys below a prefix that ends in a slash.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// What a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The schema.
    Schema,
    /// The guard.
    Guard,
    /// A record.
    Record(Kind, String),
    /// Something of a later version of the same schema.
    Other,
}

impl Keys {
    /// Names below `prefix`.
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The first key after all of ours.
    pub(super) fn end(&self) -> String {
        // The prefix ends in a slash, and a zero is the character after it.
        format!("{}0", self.prefix.trim_end_matches('/'))
    }

    /// The schema's key.
    pub(super) fn schema(&self) -> String {
        format!("{}schema", self.prefix)
    }

    /// The guard's key.
    pub(super) fn guard(&self) -> String {
        format!("{}guard", self.prefix)
    }

    /// A record's key.
    pub(super) fn record(&self, kind: Kind, key: &str) -> String {
        format!("{}{RECORDS}{kind}/{key}", self.prefix)
    }

    /// What all records' keys begin with.
    pub(super) fn records(&self) -> String {
        format!("{}{RECORDS}", self.prefix)
    }

    /// What `key` is.
    pub(super) fn parse(&self, key: &[u8]) -> Named {
        let own = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&self.prefix));
        match own {
            Some("schema") => Named::Schema,
            Some("guard") => Named::Guard,
            Some(own) => {
                let record = own.strip_prefix(RECORDS).and_then(|own| own.split_once('/'));
                let record = record.and_then(|(kind, key)| Some((Kind::parse(kind)?, key)));
                record.map_or(Named::Other, |(kind, key)| Named::Record(kind, key.to_owned()))
            }
            None => Named::Other,
        }
    }
}

const RECORDS: &str = "records/";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_named_is_read_again() {
        let keys = Keys::new("/a/b/".to_owned());
        for (kind, key) in [(Kind::Project, "p"), (Kind::Revocation, "jti/x/y"), (Kind::Cluster, "")] {
            assert_eq!(keys.parse(keys.record(kind, key).as_bytes()), Named::Record(kind, key.to_owned()));
        }
        assert_eq!(keys.parse(keys.schema().as_bytes()), Named::Schema);
        assert_eq!(keys.parse(keys.guard().as_bytes()), Named::Guard);
        for other in ["/a/b", "/a/b/records/nothing/x", "/a/bc/schema", "/a/b/records/project"] {
            assert_eq!(keys.parse(other.as_bytes()), Named::Other, "{other}");
        }
        assert_eq!(keys.parse(b"\xff"), Named::Other);
        assert_eq!(keys.end(), "/a/b0");
    }
}
