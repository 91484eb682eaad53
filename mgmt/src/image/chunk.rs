//! A chunk of a stream: extents, and the blocks of those that hold data.

use super::{BLOCK_BYTES, CHUNK_BLOCKS_MAX, CHUNK_EXTENTS_MAX, take_u32, take_u64};

/// Blocks that change, some with their data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its number in the stream, from 0.
    pub(crate) index: u64,
    /// All that changes in front of this block is in this chunk and those before it.
    pub(crate) next_block: u64,
    /// Ascending, without overlap; at most [`CHUNK_EXTENTS_MAX`].
    pub(crate) extents: Vec<Extent>,
    /// The blocks of the data extents; at most [`CHUNK_BLOCKS_MAX`].
    pub(crate) data: Vec<u8>,
}

/// Blocks side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first.
    pub(crate) first_block: u64,
    /// How many; at least 1.
    pub(crate) count_blocks: u32,
    /// What they hold.
    pub(crate) content: Content,
}

/// What blocks hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The stream's data.
    Data = 0,
    /// Zeroes.
    Zeroes = 1,
}

impl Extent {
    /// The block behind it.
    pub(crate) fn end(&self) -> u64 {
        self.first_block.saturating_add(u64::from(self.count_blocks))
    }
}

impl Chunk {
    /// Blocks of a kind in it.
    pub(crate) fn count_blocks(&self, content: Content) -> u64 {
        let extents = self.extents.iter().filter(|extent| extent.content == content);
        extents.map(|extent| u64::from(extent.count_blocks)).sum()
    }

    /// The body of the chunk's frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(self.extents.len() <= CHUNK_EXTENTS_MAX);
        assert!(self.data.len() <= CHUNK_BLOCKS_MAX * BLOCK_BYTES);
        let packed = lz4_flex::block::compress(&self.data);
        let (codec, payload) =
            if packed.len() < self.data.len() { (CODEC_LZ4, &packed) } else { (CODEC_RAW, &self.data) };
        let mut body = Vec::with_capacity(FIXED_BYTES + self.extents.len() * EXTENT_BYTES + payload.len());
        body.extend(self.index.to_le_bytes());
        body.extend(self.next_block.to_le_bytes());
        // The limits above keep both below 2^32.
        body.extend((self.data.len() as u32).to_le_bytes());
        body.extend(codec.to_le_bytes());
        body.extend((self.extents.len() as u32).to_le_bytes());
        for extent in &self.extents {
            body.extend(extent.first_block.to_le_bytes());
            body.extend(extent.count_blocks.to_le_bytes());
            body.extend((extent.content as u32).to_le_bytes());
        }
        body.extend(payload);
        body
    }

    /// Reads the body of a chunk's frame: the chunk `index`, whose extents lie within `blocks`. Says what is wrong.
    pub(super) fn parse(
        mut body: &[u8],
        index: u64,
        blocks: std::ops::Range<u64>,
    ) -> Result<Self, &'static str> {
        let body = &mut body;
        let mut fixed =
            || Some((take_u64(body)?, take_u64(body)?, take_u32(body)?, take_u32(body)?, take_u32(body)?));
        let (found, next_block, data_bytes, codec, count_extents) = fixed().ok_or("a chunk is too short")?;
        if found != index {
            return Err("a chunk is not the next one");
        }
        let (data_bytes, count_extents) = (data_bytes as usize, count_extents as usize);
        if data_bytes > CHUNK_BLOCKS_MAX * BLOCK_BYTES || count_extents > CHUNK_EXTENTS_MAX {
            return Err("a chunk has more in it than a chunk can have");
        }
        let mut extents = Vec::with_capacity(count_extents);
        let mut from = blocks.start;
        for _ in 0..count_extents {
            let extent = parse_extent(body)?;
            if extent.first_block < from || extent.end() > blocks.end {
                return Err("the extents of a chunk do not ascend, or leave the volume");
            }
            from = extent.end();
            extents.push(extent);
        }
        if next_block < from || next_block > blocks.end {
            return Err("a chunk's next block is not behind its extents");
        }
        let data = match codec {
            CODEC_RAW => body.to_vec(),
            CODEC_LZ4 => {
                lz4_flex::block::decompress(body, data_bytes).map_err(|_| "a chunk does not unpack")?
            }
            _ => return Err("a chunk is packed in a way that this version does not know"),
        };
        let chunk = Self { index, next_block, extents, data };
        let expected = chunk.count_blocks(Content::Data).saturating_mul(BLOCK_BYTES as u64);
        if chunk.data.len() != data_bytes || expected != data_bytes as u64 {
            return Err("a chunk's data is not as long as its extents say");
        }
        Ok(chunk)
    }
}

fn parse_extent(body: &mut &[u8]) -> Result<Extent, &'static str> {
    let mut fields = || Some((take_u64(body)?, take_u32(body)?, take_u32(body)?));
    let (first_block, count_blocks, content) = fields().ok_or("a chunk is too short")?;
    let content = match content {
        0 => Content::Data,
        1 => Content::Zeroes,
        _ => return Err("an extent holds what this version does not know"),
    };
    if count_blocks == 0 {
        return Err("an extent is empty");
    }
    Ok(Extent { first_block, count_blocks, content })
}

const CODEC_RAW: u32 = 0;
const CODEC_LZ4: u32 = 1;
const FIXED_BYTES: usize = 8 + 8 + 4 + 4 + 4;
const EXTENT_BYTES: usize = 8 + 4 + 4;
/// Most bytes in the body of a chunk's frame: what does not shrink is stored raw.
pub(super) const BODY_BYTES_MAX: usize =
    FIXED_BYTES + CHUNK_EXTENTS_MAX * EXTENT_BYTES + CHUNK_BLOCKS_MAX * BLOCK_BYTES;
