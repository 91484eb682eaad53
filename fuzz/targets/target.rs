//! Any bytes are a program of what a hostile peer does to the whole target, beside honest hosts that are held to a model:
//! no panic, no wrong data, no starved host, no memory kept.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|program: &[u8]| {
    if let Err(violation) = sim::target::run_attack(program) {
        panic!("{violation}");
    }
});
