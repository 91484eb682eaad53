//! Where a volume's bytes live: 1 MiB stripes dealt over shards in turn, beginning at a shard that follows from the
//! volume, so that small volumes do not all begin on shard 0.

/// Bytes in a stripe.
pub const STRIPE_BYTES: u64 = 1 << 20;

/// A stretch of one shard's part of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// The shard, `0..shards`.
    pub(crate) shard: u16,
    /// Byte offset in the shard's part of the volume.
    pub(crate) offset: u64,
    /// Length in bytes, not zero.
    pub(crate) len: u64,
}

/// How one volume is dealt over shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Striping {
    volume: u64,
    shards: u16,
}

impl Striping {
    /// The dealing of `volume` over `shards` shards (at least one).
    pub(crate) fn new(volume: u64, shards: u16) -> Self {
        assert!(shards > 0);
        Self { volume, shards }
    }

    /// The stretches of `offset..offset + len` in the volume's order, each within one stripe. For transfers, which
    /// are at most a few stripes long.
    pub(crate) fn pieces(self, offset: u64, len: u64) -> impl Iterator<Item = Stretch> {
        let end = offset + len;
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let piece_end = end.min((at / STRIPE_BYTES + 1) * STRIPE_BYTES);
            let (shard, local) = self.place(at);
            let piece = Stretch { shard, offset: local, len: piece_end - at };
            at = piece_end;
            Some(piece)
        })
    }

    /// The part of `offset..offset + len` that each shard holds: one stretch a shard at most, since stripes of one
    /// shard that follow each other in the volume follow each other in the shard. For ranges of any length.
    pub(crate) fn ranges(self, offset: u64, len: u64) -> impl Iterator<Item = Stretch> {
        let end = offset + len;
        let stripes = u64::from(self.shards);
        let first = offset / STRIPE_BYTES;
        let last = if len == 0 { first } else { (end - 1) / STRIPE_BYTES };
        let touched = if len == 0 { 0 } else { stripes.min(last - first + 1) };
        (0..touched).map(move |step| {
            let stripe_first = first + step;
            let stripe_last = stripe_first + (last - stripe_first) / stripes * stripes;
            let (shard, start) = self.place(offset.max(stripe_first * STRIPE_BYTES));
            let (_, before_end) = self.place(end.min((stripe_last + 1) * STRIPE_BYTES) - 1);
            Stretch { shard, offset: start, len: before_end + 1 - start }
        })
    }

    /// The shard and the offset in it of one byte of the volume.
    fn place(self, offset: u64) -> (u16, u64) {
        let stripes = u64::from(self.shards);
        let stripe = offset / STRIPE_BYTES;
        let shard = (stripe % stripes + self.volume % stripes) % stripes;
        let shard = u16::try_from(shard).expect("less than the number of shards, which is a u16");
        (shard, stripe / stripes * STRIPE_BYTES + offset % STRIPE_BYTES)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn shard_of(striping: Striping, byte: u64) -> (u16, u64) {
        let piece = striping.pieces(byte, 1).next().expect("one byte is one piece");
        (piece.shard, piece.offset)
    }

    #[test]
    fn pieces_cover_the_range_in_order_and_never_cross_a_stripe() {
        let striping = Striping::new(5, 16);
        let pieces: Vec<_> = striping.pieces(STRIPE_BYTES - 4096, 2 * STRIPE_BYTES).collect();
        assert_eq!(pieces.iter().map(|piece| piece.len).sum::<u64>(), 2 * STRIPE_BYTES);
        assert_eq!(pieces.len(), 3);
        assert_eq!((pieces[0].shard, pieces[1].shard, pieces[2].shard), (5, 6, 7));
        assert_eq!(pieces[0].offset, STRIPE_BYTES - 4096);
        assert_eq!(pieces[1].offset, 0);
    }

    #[test]
    fn ranges_hold_exactly_the_bytes_of_the_pieces() {
        for (shards, offset, len) in [
            (1, 0, 1),
            (3, 512, 10 * STRIPE_BYTES + 7),
            (16, STRIPE_BYTES / 2, STRIPE_BYTES),
            (4, 0, 4 * STRIPE_BYTES),
        ] {
            let striping = Striping::new(9, shards);
            let mut by_pieces = std::collections::BTreeMap::<u16, (u64, u64, u64)>::new();
            for piece in striping.pieces(offset, len) {
                let entry = by_pieces.entry(piece.shard).or_insert((piece.offset, piece.offset, 0));
                assert_eq!(entry.1, if entry.2 == 0 { piece.offset } else { entry.1 });
                entry.1 = piece.offset + piece.len;
                entry.2 += piece.len;
            }
            let ranges: Vec<_> = striping.ranges(offset, len).collect();
            assert_eq!(ranges.len(), by_pieces.len());
            for range in ranges {
                let (start, end, total) = by_pieces[&range.shard];
                assert_eq!((range.offset, range.offset + range.len, range.len), (start, end, total));
            }
        }
    }

    #[test]
    fn no_two_bytes_of_a_volume_share_a_place() {
        let striping = Striping::new(2, 3);
        let mut seen = std::collections::BTreeSet::new();
        for stripe in 0..30 {
            assert!(seen.insert(shard_of(striping, stripe * STRIPE_BYTES)));
        }
    }
}
