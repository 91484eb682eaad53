//! Benches of the transport's parts: PDU codec, framer, command parsing, checksums.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use benches::capsules::{codec, crc32c, framer, stream};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nvme::command::{LbaRange, NvmOpcode};
use nvme::pdu::{C2hData, CapsuleResp, HEADER_LEN_MAX};
use nvme::{Cqe, Sqe, Status};

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pdu");
    for (name, codec) in [("plain", codec(false)), ("digests", codec(true))] {
        let mut out = [0; HEADER_LEN_MAX];
        let data = C2hData { cid: 7, offset_bytes: 0, len_bytes: 4096, last: true, success: true };
        group.bench_function(format!("encode C2HData, {name}"), |bencher| {
            bencher.iter(|| black_box(data).encode(&codec, &mut out));
        });
        let response = CapsuleResp { cqe: Cqe::new(7, Status::SUCCESS) };
        group.bench_function(format!("encode CapsuleResp, {name}"), |bencher| {
            bencher.iter(|| black_box(&response).encode(&codec, &mut out));
        });
    }
    group.finish();
}

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framer");
    for digests in [false, true] {
        for (name, opcode, count, data) in
            [("reads", NvmOpcode::Read, 64, 0), ("writes of 4 KiB", NvmOpcode::Write, 16, 4096)]
        {
            let bytes = stream(&codec(digests), opcode, count, data);
            let mut framer = framer(digests);
            let with = if digests { "digests" } else { "plain" };
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{name}, {with}"), |bencher| {
                bencher.iter(|| {
                    let mut input = &bytes[..];
                    while let Ok(Some(event)) = framer.poll(&mut input) {
                        black_box(event);
                    }
                });
            });
        }
    }
    group.finish();
}

fn parse(criterion: &mut Criterion) {
    let entry = LbaRange::new(12_345, 8).encode(NvmOpcode::Read, 1).encode();
    criterion.bench_function("command/parse a read", |bencher| {
        bencher.iter(|| {
            let sqe = Sqe::parse(black_box(&entry));
            (LbaRange::parse(&sqe), NvmOpcode::parse(sqe.opcode), sqe.sgl())
        });
    });
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for len in [64, 512, 4096, 131_072] {
        let bytes: Vec<u8> = (0..len).map(|index: u32| (index * 31 % 251) as u8).collect();
        group.throughput(Throughput::Bytes(u64::from(len)));
        group.bench_function(format!("{len} bytes"), |bencher| bencher.iter(|| crc32c(black_box(&bytes))));
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = encode, frame, parse, checksum }
criterion_main!(benches);
