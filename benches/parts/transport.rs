//! Benches of the transport's parts: PDU codec, framer, command parsing, checksums.
#![expect(missing_docs, reason = "criterion's macro makes functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nvme::command::{LbaRange, NvmOpcode};
use nvme::pdu::{C2hData, CapsuleCmd, CapsuleResp, Codec, HEADER_LEN_MAX, Receiver};
use nvme::{Cqe, Framer, Limits, Sqe, Status};

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

fn codec(digests: bool) -> Codec {
    Codec { header_digest: digests, data_digest: digests, ..Codec::initial(crc32c) }
}

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

/// A stream of commands as an I/O queue receives it: 64 reads, or 16 writes with their data.
fn stream(codec: &Codec, opcode: NvmOpcode, count: u64, data: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..count {
        let sqe = LbaRange::new(index * 8, 8).encode(opcode, 1);
        let mut header = [0; HEADER_LEN_MAX];
        let len = CapsuleCmd { sqe }.encode(codec, data as u32, &mut header);
        bytes.extend_from_slice(&header[..len]);
        let payload = vec![index as u8; data];
        bytes.extend_from_slice(&payload);
        if codec.data_digest && data > 0 {
            bytes.extend_from_slice(&crc32c(&payload).to_le_bytes());
        }
    }
    bytes
}

fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framer");
    let limits = Limits { capsule_data_max_bytes: 8192, transfer_data_max_bytes: 1 << 20 };
    for digests in [false, true] {
        for (name, opcode, count, data) in
            [("reads", NvmOpcode::Read, 64, 0), ("writes of 4 KiB", NvmOpcode::Write, 16, 4096)]
        {
            let bytes = stream(&codec(digests), opcode, count, data);
            let mut framer = Framer::new(Receiver::Controller, limits, crc32c);
            framer.negotiate(digests, digests, 4);
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
