//! Any 64 bytes are a submission queue entry, and any bytes behind it its data: every typed reader takes them without
//! a panic, and what a reader accepts it encodes again to what it read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvme::Sqe;
use nvme::command::{Abort, LbaRange, NvmCommand};
use nvme::fabrics::{Connect, ConnectData, PropertyGet, PropertySet};
use nvme::features::{GetFeatures, SetFeatures};
use nvme::log::GetLogPage;
use nvme::sqe::Sgl;

fuzz_target!(|input: &[u8]| {
    let Some((entry, data)) = input.split_first_chunk::<{ Sqe::LEN }>() else { return };
    let sqe = Sqe::parse(entry);
    assert_eq!(Sqe::parse(&sqe.encode()), sqe);
    if let Ok(command) = NvmCommand::parse(&sqe) {
        assert_eq!(NvmCommand::parse(&command.encode(sqe.nsid)), Ok(command));
        if let NvmCommand::Read(range) | NvmCommand::Write(range) | NvmCommand::Compare(range) = command {
            check_range(&range);
        }
    }
    let _ = (Abort::parse(&sqe), Connect::parse(&sqe), PropertyGet::parse(&sqe), PropertySet::parse(&sqe));
    let _ = (GetFeatures::parse(&sqe), SetFeatures::parse(&sqe), GetLogPage::parse(&sqe));
    if let Some(descriptor) = entry[24..40].first_chunk::<16>() {
        let _ = Sgl::parse(descriptor);
    }
    if let Some(data) = data.first_chunk::<{ ConnectData::LEN }>()
        && let Ok(connect) = ConnectData::parse(data)
    {
        assert_eq!(ConnectData::parse(&connect.encode()), Ok(connect));
    }
});

/// A range that fits a namespace ends within it, whatever the arithmetic before.
fn check_range(range: &LbaRange) {
    for size_blocks in [0, 1, 1 << 20, u64::MAX] {
        if range.fits(size_blocks) {
            assert!(range.end().is_some_and(|end| end <= size_blocks));
        }
    }
}
