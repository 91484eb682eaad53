//! What names, sizes, access lists and labels may be: text becomes the data plane's types here, once.

use std::net::IpAddr;

use dataplane::{HostAcl, IpAcl, VolumeUuid};
use uuid::Uuid;

use super::error::ApiError;
use super::json::{Label, StringList};
use crate::size::{SizeError, parse_size};

/// A name of a volume, project or credential.
pub(crate) fn name(field: &str, text: &str) -> Result<String, ApiError> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(ApiError::invalid(format!(
        "{field}: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-' are allowed"
    )))
}

/// What people say of a thing.
pub(crate) fn description(text: &str) -> Result<(), ApiError> {
    if text.len() > DESCRIPTION_BYTES_MAX {
        return Err(ApiError::invalid(format!("description: at most {DESCRIPTION_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A host's NQN.
pub(crate) fn host_nqn(field: &str, text: &str) -> Result<String, ApiError> {
    let rule = || format!("{field}: a host NQN has 1 to {NQN_BYTES_MAX} printable characters");
    if is_host(text) { Ok(text.to_owned()) } else { Err(ApiError::invalid(rule())) }
}

/// Whether one more may be made of what memory holds all of.
pub(crate) fn room(count: usize, most: usize, what: &str) -> Result<(), ApiError> {
    if count < most {
        return Ok(());
    }
    let message = format!("there are {most} {what} already, which is the most that is possible");
    Err(ApiError::new(hyper::StatusCode::BAD_REQUEST, super::error::Code::ResourceExhausted, message))
}

/// The size of a volume: rounded up to whole blocks.
pub(crate) fn size(text: &str) -> Result<u64, ApiError> {
    let bytes = parse_size(text)?;
    if bytes == 0 {
        return Err(ApiError::invalid("size: not 0"));
    }
    let rounded = bytes.checked_next_multiple_of(BLOCK_BYTES).ok_or(SizeError::TooLarge)?;
    if rounded > SIZE_BYTES_MAX {
        return Err(ApiError::invalid("size: at most 1 PiB"));
    }
    Ok(rounded)
}

/// Whether compression is on; none if the text is empty.
pub(crate) fn compression(text: &str) -> Result<Option<bool>, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "true" | "enable" | "enabled" => Ok(Some(true)),
        "false" | "disable" | "disabled" => Ok(Some(false)),
        _ => Err(ApiError::invalid("compression: true, enable, enabled, false, disable or disabled")),
    }
}

/// Hosts that see a volume.
pub(crate) fn host_acl(list: &StringList) -> Result<HostAcl, ApiError> {
    match list.values.as_slice() {
        [] => Err(ApiError::invalid("acl.values: name hosts, or ALLOW_ANY or ALLOW_NONE")),
        [one] if one == ANY => Ok(HostAcl::Any),
        [one] if one == NONE => Ok(HostAcl::None),
        values => {
            check_list("acl.values", values, HOSTS_MAX)?;
            if let Some(wrong) = values.iter().find(|nqn| !is_host(nqn)) {
                let rule = format!("a host NQN has 1 to {NQN_BYTES_MAX} printable characters");
                return Err(ApiError::invalid(format!("acl.values: {wrong:?}: {rule}")));
            }
            let mut hosts: Vec<String> = Vec::with_capacity(values.len());
            for host in values {
                if !hosts.contains(host) {
                    hosts.push(host.clone());
                }
            }
            Ok(HostAcl::Hosts(hosts))
        }
    }
}

/// Addresses from which a volume is seen.
pub(crate) fn ip_acl(list: &StringList) -> Result<IpAcl, ApiError> {
    match list.values.as_slice() {
        [] => Err(ApiError::invalid("IPAcl.values: name addresses, or ALLOW_ANY or ALLOW_NONE")),
        [one] if one == ANY => Ok(IpAcl::Any),
        [one] if one == NONE => Ok(IpAcl::None),
        values => {
            check_list("IPAcl.values", values, ADDRESSES_MAX)?;
            let mut addresses: Vec<IpAddr> = Vec::with_capacity(values.len());
            for text in values {
                let address = text.trim().parse().map_err(|_| {
                    ApiError::invalid(format!("IPAcl.values: {text:?} is no IPv4 or IPv6 address"))
                })?;
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(IpAcl::Addresses(addresses))
        }
    }
}

/// The list that [`host_acl`] read.
pub(crate) fn host_acl_list(acl: &HostAcl) -> StringList {
    let values = match acl {
        HostAcl::Any => vec![ANY.to_owned()],
        HostAcl::None => vec![NONE.to_owned()],
        HostAcl::Hosts(hosts) => hosts.clone(),
    };
    StringList { values }
}

/// The list that [`ip_acl`] read.
pub(crate) fn ip_acl_list(acl: &IpAcl) -> StringList {
    let values = match acl {
        IpAcl::Any => vec![ANY.to_owned()],
        IpAcl::None => vec![NONE.to_owned()],
        IpAcl::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
    };
    StringList { values }
}

/// Labels: few, with names for keys and values, no key twice.
pub(crate) fn labels(labels: &[Label]) -> Result<(), ApiError> {
    if labels.len() > LABELS_MAX {
        return Err(ApiError::invalid(format!("labels: at most {LABELS_MAX}")));
    }
    for (index, label) in labels.iter().enumerate() {
        name("labels.key", &label.key)?;
        name("labels.value", &label.value)?;
        if labels[..index].iter().any(|other| other.key == label.key) {
            return Err(ApiError::invalid(format!("labels: key {:?} is given twice", label.key)));
        }
    }
    Ok(())
}

/// A volume's UUID in its usual form.
pub(crate) fn volume_uuid(text: &str) -> Result<VolumeUuid, ApiError> {
    let uuid = Uuid::try_parse(text).map_err(|_| ApiError::invalid(format!("UUID: {text:?} is no UUID")))?;
    Ok(VolumeUuid(uuid.into_bytes()))
}

/// The text of a UUID.
pub(crate) fn uuid_text(bytes: [u8; 16]) -> String {
    Uuid::from_bytes(bytes).hyphenated().to_string()
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_host(text: &str) -> bool {
    (1..=NQN_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|letter| letter.is_control() || letter == ' ')
}

fn check_list(field: &str, values: &[String], most: usize) -> Result<(), ApiError> {
    if values.len() > most {
        return Err(ApiError::invalid(format!("{field}: at most {most} entries")));
    }
    if values.iter().any(|value| value == ANY || value == NONE) {
        return Err(ApiError::invalid(format!("{field}: ALLOW_ANY and ALLOW_NONE stand alone")));
    }
    Ok(())
}

const ANY: &str = "ALLOW_ANY";
const NONE: &str = "ALLOW_NONE";
const NAME_BYTES_MAX: usize = 253;
const DESCRIPTION_BYTES_MAX: usize = 256;
/// NVM Express Base Specification 2.0, section 4.5: an NQN has at most 223 bytes.
const NQN_BYTES_MAX: usize = 223;
const HOSTS_MAX: usize = 64;
const ADDRESSES_MAX: usize = 16;
const LABELS_MAX: usize = 16;
const BLOCK_BYTES: u64 = 4096;
const SIZE_BYTES_MAX: u64 = 1 << 50;

#[cfg(test)]
mod test {
    use super::*;

    fn list(values: &[&str]) -> StringList {
        StringList { values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn sizes_are_rounded_up_to_blocks_within_bounds() {
        assert_eq!(size("1"), Ok(4096));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("4097"), Ok(8192));
        assert_eq!(size("4 gib"), Ok(4 << 30));
        assert_eq!(size("1PiB"), Ok(1 << 50));
        for text in ["", "0", "0gib", "-1", "9223372036854775807", "18446744073709551615", "1025TiB"] {
            assert_eq!(size(text).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn names_have_the_contracts_letters() {
        for text in ["a", "A.b_c-9", &"x".repeat(253)] {
            assert!(name("name", text).is_ok(), "{text}");
        }
        for text in ["", "a b", "a/b", "a:b", "ä", &"x".repeat(254), "a\n"] {
            assert!(name("name", text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_lists_are_hosts_or_one_pseudo_value() {
        assert_eq!(host_acl(&list(&["ALLOW_ANY"])), Ok(HostAcl::Any));
        assert_eq!(host_acl(&list(&["ALLOW_NONE"])), Ok(HostAcl::None));
        let hosts = HostAcl::Hosts(vec!["nqn.b".to_owned(), "a".to_owned()]);
        assert_eq!(host_acl(&list(&["nqn.b", "a", "nqn.b"])), Ok(hosts));
        for values in [&[][..], &["ALLOW_ANY", "a"], &["ALLOW_ANY", "ALLOW_NONE"], &[""], &["a b"], &["a\0"]]
        {
            assert!(host_acl(&list(values)).is_err(), "{values:?}");
        }
        assert!(host_acl(&list(&["x"; 65])).is_err());
        assert!(host_acl(&list(&["x".repeat(224).as_str()])).is_err());
    }

    #[test]
    fn address_lists_are_addresses_or_one_pseudo_value() {
        assert_eq!(ip_acl(&list(&["ALLOW_NONE"])), Ok(IpAcl::None));
        let addresses = IpAcl::Addresses(vec!["10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(ip_acl(&list(&["10.0.0.1", "fe80:0::1"])), Ok(addresses));
        for values in [&[][..], &["10.0.0.0/8"], &["host"], &["ALLOW_ANY", "10.0.0.1"], &["10.0.0.1"; 17]] {
            assert!(ip_acl(&list(values)).is_err(), "{values:?}");
        }
    }

    #[test]
    fn labels_are_few_and_unique() {
        let label = |key: &str| Label { key: key.to_owned(), value: "v".to_owned() };
        assert!(labels(&[label("a"), label("b")]).is_ok());
        assert!(labels(&[label("a"), label("a")]).is_err());
        assert!(labels(&[label("")]).is_err());
        let many: Vec<Label> = (0..17).map(|number| label(&number.to_string())).collect();
        assert!(labels(&many[..16]).is_ok());
        assert!(labels(&many).is_err());
    }

    #[test]
    fn compression_has_six_words() {
        for (text, value) in
            [("True", true), ("ENABLE", true), ("enabled", true), ("False", false), ("disable", false)]
        {
            assert_eq!(compression(text), Ok(Some(value)));
        }
        assert_eq!(compression(""), Ok(None));
        assert!(compression("yes").is_err());
    }
}
