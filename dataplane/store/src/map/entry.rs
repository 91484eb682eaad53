//! What the map says of a block, in eight bytes, and of a page, in eight bytes.

use crate::codec::{Form, RAW_UNITS, UNIT_BYTES};

/// A place on the drives in units of 512 bytes, counted through all segments of the pool; below 2^40.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location(pub(crate) u64);

/// A map entry: 0 for an unmapped block. Otherwise bit 63 is the kind (0, stored as it is; 1, compressed), bits 0 to 39
/// are the location, which is never 0: there a segment begins. Bits 40 to 62 are the low bits of the block's CRC32C; of a
/// compressed block that is bits 43 to 62, and bits 40 to 42 are its length in units of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

/// Where a page was last written: 0 for nowhere. Otherwise bits 0 to 39 are the location, bits 40 to 42 the offset
/// from it in units of 64 bytes, bits 43 to 46 its length in these units, bits 47 to 62 the low bits of its CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u64);

/// Unit of a location in bytes.
pub(crate) const LOCATION_BYTES: u64 = UNIT_BYTES as u64;
/// Unit in which pages are placed, in bytes.
pub(crate) const PAGE_UNIT_BYTES: u32 = 64;

const LOCATION_BITS: u32 = 40;
const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const CRC_MASK: u32 = (1 << 23) - 1;
const UNITS_MASK: u64 = 7;
const PACKED_CRC_SHIFT: u32 = LOCATION_BITS + 3;
const PACKED_CRC_MASK: u32 = (1 << 20) - 1;
const KIND: u64 = 1 << 63;

impl Location {
    /// Bytes from an earlier location of the same segment up to this one.
    pub(crate) fn bytes_from(self, start: Self) -> u64 {
        (self.0 - start.0) * LOCATION_BYTES
    }
}

impl Entry {
    /// Nothing is stored for the block.
    pub(crate) const UNMAPPED: Self = Self(0);

    /// A block that is stored at a place.
    pub(crate) fn new(location: Location, form: Form) -> Self {
        assert!(location.0 & !LOCATION_MASK == 0);
        assert!(location.0 != 0);
        let crc = |mask: u32, shift: u32| u64::from(form.crc & mask) << shift;
        Self(match form.is_packed() {
            false => location.0 | crc(CRC_MASK, LOCATION_BITS),
            true => {
                let units = u64::from(form.units()) << LOCATION_BITS;
                KIND | location.0 | units | crc(PACKED_CRC_MASK, PACKED_CRC_SHIFT)
            }
        })
    }

    /// Whether it is stored compressed.
    pub(crate) fn is_packed(self) -> bool {
        self.0 & KIND != 0
    }

    /// Units of 512 bytes that it takes where it is stored.
    pub(crate) fn units(self) -> u32 {
        if self.is_packed() {
            u32::try_from(self.0 >> LOCATION_BITS & UNITS_MASK).expect("three bits")
        } else {
            u32::from(RAW_UNITS)
        }
    }

    /// Units that it takes less than a block as it is.
    pub(crate) fn saved_units(self) -> u64 {
        u64::from(u32::from(RAW_UNITS) - self.units())
    }

    /// Bytes that it takes where it is stored.
    pub(crate) fn bytes(self) -> u32 {
        self.units() * UNIT_BYTES
    }

    /// Whether something is stored for the block.
    pub(crate) fn is_mapped(self) -> bool {
        self.0 != 0
    }

    /// Where it is stored.
    pub(crate) fn location(self) -> Location {
        Location(self.0 & LOCATION_MASK)
    }

    /// Whether this is an entry that this version makes.
    pub(crate) fn is_known(self) -> bool {
        self.0 == 0 || self.location().0 != 0 && self.units() != 0
    }

    /// Whether what is stored with this checksum is what was stored, as far as an entry can tell.
    pub(crate) fn accepts(self, crc: u32) -> bool {
        let (shift, mask) =
            if self.is_packed() { (PACKED_CRC_SHIFT, PACKED_CRC_MASK) } else { (LOCATION_BITS, CRC_MASK) };
        (self.0 >> shift) & u64::from(mask) == u64::from(crc & mask)
    }
}

impl Place {
    /// Never written.
    pub(crate) const NOWHERE: Self = Self(0);

    /// A page of `len` bytes, `offset` bytes beyond `location`.
    pub(crate) fn new(location: Location, offset: u32, len: u32, crc: u32) -> Self {
        let (unit, units) = (u64::from(offset / PAGE_UNIT_BYTES), u64::from(len / PAGE_UNIT_BYTES));
        assert!(location.0 & !LOCATION_MASK == 0);
        assert!(unit < 8 && offset.is_multiple_of(PAGE_UNIT_BYTES));
        assert!(0 < units && units < 16 && len.is_multiple_of(PAGE_UNIT_BYTES));
        Self(location.0 | unit << 40 | units << 43 | u64::from(crc & 0xffff) << 47)
    }

    /// Whether it was ever written.
    pub(crate) fn is_somewhere(self) -> bool {
        self.0 != 0
    }

    /// The location at or before its start.
    pub(crate) fn location(self) -> Location {
        Location(self.0 & LOCATION_MASK)
    }

    /// Its start in bytes from the location.
    pub(crate) fn offset(self) -> u32 {
        u32::try_from(self.0 >> 40 & 7).expect("three bits") * PAGE_UNIT_BYTES
    }

    /// Its length in bytes.
    pub(crate) fn len(self) -> u32 {
        u32::try_from(self.0 >> 43 & 15).expect("four bits") * PAGE_UNIT_BYTES
    }

    /// Whether a page with this checksum can be the one that was written there.
    pub(crate) fn accepts(self, crc: u32) -> bool {
        self.0 >> 47 & 0xffff == u64::from(crc & 0xffff)
    }
}
