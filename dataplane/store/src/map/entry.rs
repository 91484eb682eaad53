//! What the map says of a block, in eight bytes, and of a page, in eight bytes.

/// A place on the drives in units of 512 bytes, counted through all segments of the pool; below 2^40.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location(pub(crate) u64);

/// A map entry: 0 for an unmapped block. Otherwise bit 63 is the kind (0, raw), bits 40 to 62 are the low bits of the
/// block's CRC32C (of a compressed block they will hold its length and fewer bits of the checksum), bits 0 to 39 are
/// the location. Location 0 begins a segment and so is never a block's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

/// Where a page was last written: 0 for nowhere. Otherwise bits 0 to 39 are the location, bits 40 to 42 the offset
/// from it in units of 64 bytes, bits 43 to 46 its length in these units, bits 47 to 62 the low bits of its CRC32C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u64);

/// Unit of a location in bytes.
pub(crate) const LOCATION_BYTES: u64 = 512;
/// Unit in which pages are placed, in bytes.
pub(crate) const PAGE_UNIT_BYTES: u32 = 64;

const LOCATION_BITS: u32 = 40;
const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const CRC_MASK: u32 = (1 << 23) - 1;
const KIND: u64 = 1 << 63;

impl Entry {
    /// Nothing is stored for the block.
    pub(crate) const UNMAPPED: Self = Self(0);

    /// A block stored as it is.
    pub(crate) fn raw(location: Location, crc: u32) -> Self {
        assert!(location.0 & !LOCATION_MASK == 0);
        assert!(location.0 != 0);
        Self(location.0 | u64::from(crc & CRC_MASK) << LOCATION_BITS)
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
        self.0 & KIND == 0 && (self.0 == 0 || self.location().0 != 0)
    }

    /// Whether data with this checksum is what was stored, as far as an entry can tell.
    pub(crate) fn accepts(self, crc: u32) -> bool {
        (self.0 >> LOCATION_BITS) & u64::from(CRC_MASK) == u64::from(crc & CRC_MASK)
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
