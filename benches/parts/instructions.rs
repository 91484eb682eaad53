//! Instructions per operation of the parts, counted by valgrind: the same on every machine of a kind, however busy.
//!
//! The program runs itself under cachegrind with so many operations of a part and with twice as many; the difference is
//! theirs, without what came before. `--part NAME --times N` is what it runs, to look into a part with callgrind.

use std::hint::black_box;
use std::process::{Command, ExitCode};

use benches::capsules::{codec, crc32c, framer, stream};
use benches::memory_drive::HeapBuffer;
use benches::random::Random;
use benches::whole_target::WholeTarget;
use benches::written_shard::{WrittenShard, payload};
use io::{Buffer as _, Slice};
use nvme::command::{LbaRange, NvmOpcode, PlainTransfer};
use nvme::pdu::{C2hData, CapsuleResp, HEADER_LEN_MAX};
use nvme::{Cqe, Sgl, Status};
use store::Payload;
use store::injected::InjectedMap;

/// A part, ready to run.
type Step = Box<dyn FnMut()>;

/// What is counted.
struct Part {
    name: &'static str,
    /// Operations in a step.
    operations: u64,
    /// Steps of the shorter run.
    times: u64,
    prepare: fn() -> Step,
}

const PARTS: &[Part] = &[
    Part { name: "encode C2HData", operations: 1, times: 10_000, prepare: || encode_data(false) },
    Part {
        name: "encode C2HData with its digest",
        operations: 1,
        times: 10_000,
        prepare: || encode_data(true),
    },
    Part { name: "encode CapsuleResp", operations: 1, times: 10_000, prepare: encode_response },
    Part { name: "parse a read command", operations: 1, times: 10_000, prepare: parse },
    Part {
        name: "frame a read capsule",
        operations: 64,
        times: 200,
        prepare: || frame(NvmOpcode::Read, false),
    },
    Part {
        name: "frame a read capsule with its digest",
        operations: 64,
        times: 200,
        prepare: || frame(NvmOpcode::Read, true),
    },
    Part {
        name: "frame a write capsule of 4 KiB",
        operations: 16,
        times: 200,
        prepare: || frame(NvmOpcode::Write, false),
    },
    Part {
        name: "a read through the target, 32 together",
        operations: 32,
        times: 300,
        prepare: || whole(NvmOpcode::Read, 32, false, false),
    },
    Part {
        name: "the same, data and response apart",
        operations: 32,
        times: 300,
        prepare: || whole(NvmOpcode::Read, 32, false, true),
    },
    Part {
        name: "the same, with digests",
        operations: 32,
        times: 300,
        prepare: || whole(NvmOpcode::Read, 32, true, false),
    },
    Part {
        name: "a read through the target, alone",
        operations: 1,
        times: 2_000,
        prepare: || whole(NvmOpcode::Read, 1, false, false),
    },
    Part {
        name: "a write through the target, 15 in one receive",
        operations: 15,
        times: 300,
        prepare: || whole(NvmOpcode::Write, 15, false, false),
    },
    Part {
        name: "a write through the target, 128 in receives of 64 KiB",
        operations: 128,
        times: 100,
        prepare: || whole(NvmOpcode::Write, 128, false, false),
    },
    Part {
        name: "a write through the target, alone",
        operations: 1,
        times: 2_000,
        prepare: || whole(NvmOpcode::Write, 1, false, false),
    },
    Part { name: "CRC32C of 4 KiB", operations: 1, times: 2_000, prepare: checksum },
    Part { name: "look a block up in the map", operations: 1, times: 10_000, prepare: look_up },
    Part { name: "update a block in the map", operations: 1, times: 10_000, prepare: update },
    Part { name: "write a block through a shard, alone", operations: 1, times: 500, prepare: || write(1) },
    Part {
        name: "write a block through a shard, 32 together",
        operations: 32,
        times: 50,
        prepare: || write(32),
    },
    Part {
        name: "write a block through a shard, 32 in one request",
        operations: 32,
        times: 50,
        prepare: write_together,
    },
    Part { name: "zeros to a block through a shard, 32 together", operations: 32, times: 50, prepare: zero },
    Part {
        name: "read a block through a shard, 32 together",
        operations: 32,
        times: 50,
        prepare: || read(false),
    },
    Part {
        name: "read a block that was never written, 32 together",
        operations: 32,
        times: 50,
        prepare: || read(true),
    },
];

/// Copies and fills of some KiB would be one instruction a byte: valgrind counts each turn of those that repeat.
const NO_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

/// Blocks of the volume and of the map.
const BLOCKS: u64 = 4096;
const MAP_BLOCKS: u64 = 1 << 16;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let outcome = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => PARTS.iter().try_for_each(show),
        ["--part", name, "--times", times] => run(name, times),
        _ => Err("usage: instructions [--part NAME --times N]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Counts a part and prints its line of the table.
fn show(part: &Part) -> Result<(), String> {
    if part.name == PARTS[0].name {
        println!("| part | instructions |\n|---|---|");
    }
    let once = count(part, part.times)?;
    let twice = count(part, 2 * part.times)?;
    let each = twice.saturating_sub(once) as f64 / (part.times * part.operations) as f64;
    println!("| {} | {each:.0} |", part.name);
    Ok(())
}

/// Instructions of this program when it runs so many steps of a part.
fn count(part: &Part, times: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .env("GLIBC_TUNABLES", NO_REP)
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args(["--part", part.name, "--times", &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not run ({error}); install it"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| Some(line.split_once("I ")?.1.split_once("refs:")?.1));
    let digits: String = line.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| format!("{}: valgrind counted nothing:\n{text}", part.name))
}

fn run(name: &str, times: &str) -> Result<(), String> {
    let part = PARTS.iter().find(|part| part.name == name).ok_or_else(|| format!("no part {name:?}"))?;
    let times: u64 = times.parse().map_err(|_| format!("{times:?} is no number"))?;
    let mut step = (part.prepare)();
    (0..times).for_each(|_| step());
    Ok(())
}

fn encode_data(digests: bool) -> Step {
    let codec = codec(digests);
    let mut out = [0; HEADER_LEN_MAX];
    let data = C2hData { cid: 7, offset_bytes: 0, len_bytes: 4096, last: true, success: true };
    if codec.is_plain() {
        return Box::new(move || {
            black_box(black_box(&data).encode_plain());
        });
    }
    Box::new(move || {
        black_box(black_box(&data).encode(&codec, &mut out));
    })
}

fn encode_response() -> Step {
    let response = CapsuleResp { cqe: Cqe::new(7, Status::SUCCESS) };
    Box::new(move || {
        black_box(black_box(&response).encode_plain());
    })
}

fn parse() -> Step {
    let sqe = LbaRange::new(12_345, 8).encode(NvmOpcode::Read, 1);
    let entry = sqe.with_sgl(Sgl::Transport { len_bytes: 32_768 }).encode();
    Box::new(move || {
        black_box(PlainTransfer::parse(black_box(&entry)));
    })
}

fn frame(opcode: NvmOpcode, digests: bool) -> Step {
    let (count, data) = if opcode == NvmOpcode::Read { (64, 0) } else { (16, 4096) };
    let bytes = stream(&codec(digests), opcode, count, data);
    let framer = framer(digests);
    Box::new(move || {
        let mut input = &bytes[..];
        while let Some(capsule) = framer.take_capsule(&mut input) {
            black_box(capsule);
        }
        assert!(input.is_empty(), "every capsule is there whole");
    })
}

fn whole(opcode: NvmOpcode, together: u16, digests: bool, plain: bool) -> Step {
    let mut target = WholeTarget::new(opcode, together, digests, plain);
    Box::new(move || target.step())
}

fn checksum() -> Step {
    let bytes: Vec<u8> = (0..4096_u32).map(|index| (index * 31 % 251) as u8).collect();
    Box::new(move || {
        black_box(crc32c(black_box(&bytes)));
    })
}

fn look_up() -> Step {
    let mut map = InjectedMap::filled(MAP_BLOCKS);
    let mut random = Random::new(1);
    Box::new(move || {
        map.look_up(random.below(MAP_BLOCKS));
    })
}

fn update() -> Step {
    let mut map = InjectedMap::filled(MAP_BLOCKS);
    let mut random = Random::new(1);
    Box::new(move || map.overwrite(random.below(MAP_BLOCKS)))
}

fn write(together: u64) -> Step {
    let mut shard = WrittenShard::new(256 << 20, BLOCKS);
    let data = payload(5);
    Box::new(move || {
        let blocks = (0..together).map(|_| (shard.random(), data.clone())).collect();
        shard.write(blocks);
    })
}

fn write_together() -> Step {
    let mut shard = WrittenShard::new(256 << 20, BLOCKS);
    let bytes: Vec<u8> = (0..32 * 4096_u64).map(|at| (at * 131 + 1) as u8).collect();
    let data = Payload::new(Slice::whole(HeapBuffer::from(bytes).share()));
    Box::new(move || {
        let first = shard.random() / 32 * 32;
        shard.write_together(first, data.clone());
    })
}

fn zero() -> Step {
    let mut shard = WrittenShard::new(256 << 20, BLOCKS);
    Box::new(move || shard.zero(32))
}

fn read(unwritten: bool) -> Step {
    let mut shard = WrittenShard::new(256 << 20, BLOCKS);
    if unwritten {
        shard.map_unwritten();
    }
    Box::new(move || shard.read(32, |block| if unwritten { BLOCKS + (block | 1) } else { block }))
}
