//! The `ferrule` binary.
fn main() {}
