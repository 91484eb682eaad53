//! All rows, and what they are written with.

use super::{Kind, Opt, Place, Row, access, site, storage};

/// Every row.
pub(in crate::cli) fn all() -> impl Iterator<Item = &'static Row> {
    storage::ROWS.iter().chain(access::ROWS).chain(site::ROWS)
}

/// An option that may be left out.
pub(super) const fn may(
    flag: &'static str,
    field: &'static str,
    place: Place,
    kind: Kind,
    help: &'static str,
) -> Opt {
    Opt { flag, field, place, kind, required: false, help }
}

/// An option that must be given.
pub(super) const fn must(
    flag: &'static str,
    field: &'static str,
    place: Place,
    kind: Kind,
    help: &'static str,
) -> Opt {
    Opt { flag, field, place, kind, required: true, help }
}
