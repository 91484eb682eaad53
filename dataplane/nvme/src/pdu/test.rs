//! Golden vectors of every PDU header.
