//! Placement restrictions: in which failure domains a volume may lie, held against those of this server.
//!
//! A volume lies where it is made, and is made by the one server that is asked. So a restriction that admits none of this
//! server's failure domains is refused; any other is met, now and for the volume's life, and is told with the volume.

use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::json::or_default;

/// One restriction: any of its pairs must be met.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Restriction {
    #[serde(deserialize_with = "or_default")]
    operator: String,
    #[serde(deserialize_with = "or_default")]
    label_value_key_pairs: Vec<Pair>,
}

/// A failure domain.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
struct Pair {
    #[serde(deserialize_with = "or_default")]
    key: String,
    #[serde(deserialize_with = "or_default")]
    value: String,
}

/// Refuses restrictions that cannot be read, and those that a server in `domains` does not meet.
pub(super) fn check(restrictions: &[Restriction], domains: &[String]) -> Result<(), ApiError> {
    let wrong = |rule: String| ApiError::invalid(format!("placementRestrictions: {rule}"));
    let pairs = || restrictions.iter().flat_map(|one| &one.label_value_key_pairs);
    if pairs().count() > DOMAINS_MAX {
        return Err(wrong(format!("at most {DOMAINS_MAX} failure domains in all")));
    }
    for restriction in restrictions {
        if restriction.operator != "In" {
            return Err(wrong("operator: only In is known".to_owned()));
        }
        if restriction.label_value_key_pairs.is_empty() {
            return Err(wrong("labelValueKeyPairs: at least one".to_owned()));
        }
    }
    for pair in pairs() {
        // With one replica, its node is the primary one.
        if !matches!(pair.key.as_str(), "FD" | "PrimaryFD") {
            return Err(wrong("key: FD or PrimaryFD".to_owned()));
        }
        if pair.value.is_empty() || pair.value.chars().count() > DOMAIN_LENGTH_MAX {
            return Err(wrong(format!("value: a failure domain has 1 to {DOMAIN_LENGTH_MAX} characters")));
        }
    }
    let is_met =
        |one: &&Restriction| one.label_value_key_pairs.iter().any(|pair| domains.contains(&pair.value));
    match restrictions.iter().find(|one| !is_met(one)) {
        None => Ok(()),
        Some(unmet) => {
            let wanted: Vec<&str> =
                unmet.label_value_key_pairs.iter().map(|pair| pair.value.as_str()).collect();
            let rule = format!(
                "no server here is in {}; this one is in {}",
                wanted.join(" or "),
                domains.join(" and ")
            );
            Err(wrong(rule))
        }
    }
}

const DOMAINS_MAX: usize = 25;
/// In characters.
pub(crate) const DOMAIN_LENGTH_MAX: usize = 100;

#[cfg(test)]
mod test {
    use super::*;

    fn restriction(pairs: &[(&str, &str)]) -> Restriction {
        let pair = |(key, value): &(&str, &str)| Pair { key: (*key).to_owned(), value: (*value).to_owned() };
        Restriction { operator: "In".to_owned(), label_value_key_pairs: pairs.iter().map(pair).collect() }
    }

    fn status(restrictions: &[Restriction]) -> Result<(), String> {
        let domains = ["server00".to_owned(), "rack1".to_owned()];
        check(restrictions, &domains).map_err(|error| {
            assert_eq!(error.status, 400);
            error.message
        })
    }

    #[test]
    fn any_pair_of_each_restriction_must_be_met() {
        let (here, there) = (("FD", "rack1"), ("FD", "rack2"));
        assert_eq!(status(&[]), Ok(()));
        assert_eq!(status(&[restriction(&[there, here])]), Ok(()));
        assert_eq!(status(&[restriction(&[here]), restriction(&[("PrimaryFD", "server00")])]), Ok(()));
        let unmet = status(&[restriction(&[here]), restriction(&[there, ("FD", "rack3")])]).unwrap_err();
        assert!(unmet.contains("rack2 or rack3") && unmet.contains("server00 and rack1"), "{unmet}");
    }

    #[test]
    fn what_is_no_restriction_is_refused() {
        for wrong in [
            Restriction { operator: "Unknown".to_owned(), ..restriction(&[("FD", "rack1")]) },
            restriction(&[]),
            restriction(&[("Unknown", "rack1")]),
            restriction(&[("FD", "")]),
            restriction(&[("FD", &"x".repeat(101))]),
            restriction(&[("FD", "rack1"); 26]),
        ] {
            assert!(status(&[wrong]).is_err());
        }
        assert_eq!(status(&[restriction(&[("FD", "rack1"); 25])]), Ok(()));
    }
}
