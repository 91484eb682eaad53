//! The Error Information log of one controller. Base spec 2.0, section 5.16.1.2.

use std::collections::VecDeque;

use nvme::log::{ErrorEntry, StatusField};
use nvme::{Sqe, Status};

use crate::limits::ERROR_LOG_ENTRIES;

const TRANSPORT_TCP: u8 = 3;

#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    count: u64,
    /// Newest first.
    entries: VecDeque<ErrorEntry>,
}

impl ErrorLog {
    /// Notes an admin command that failed; the oldest entry makes room.
    pub(crate) fn push(&mut self, sqe: &Sqe, status: Status) {
        self.count += 1;
        self.entries.truncate(ERROR_LOG_ENTRIES - 1);
        self.entries.push_front(ErrorEntry {
            error_count: self.count,
            sqid: 0,
            cid: sqe.cid,
            status: StatusField(status),
            parameter_location: 0xffff,
            nsid: sqe.nsid,
            transport: TRANSPORT_TCP,
            opcode: sqe.opcode,
            version: 1,
            ..ErrorEntry::default()
        });
    }

    /// Entries over the controller's life.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.entries.iter().flat_map(ErrorEntry::encode).collect();
        page.resize(ERROR_LOG_ENTRIES * ErrorEntry::LEN, 0);
        page
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_newest_error_comes_first_and_the_log_is_bounded() {
        let mut log = ErrorLog::default();
        for cid in 0..1000 {
            log.push(&Sqe { cid, ..Sqe::new(0xc0, 1) }, Status::INVALID_OPCODE);
        }
        let page = log.page();
        assert_eq!(page.len(), ERROR_LOG_ENTRIES * 64);
        assert_eq!(log.count(), 1000);
        let first = ErrorEntry::parse(page[..64].try_into().unwrap());
        assert_eq!((first.error_count, first.cid, first.opcode), (1000, 999, 0xc0));
        let last = ErrorEntry::parse(page[page.len() - 64..].try_into().unwrap());
        assert_eq!(last.error_count, 1000 - ERROR_LOG_ENTRIES as u64 + 1);
    }
}
