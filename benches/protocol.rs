//! What each step of the protocols takes: frames, masking, chunks, headers, the search for a user. The cases are
//! those of `bench/instructions`. Routing has its own: `cargo bench -p wsray-route`.
//!
//! `cargo bench --bench protocol`, and a part of a name behind it to choose.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol");
    for case in wsray_bench::cases() {
        if case.bytes > 0 {
            group.throughput(Throughput::Bytes(case.bytes));
        } else {
            group.throughput(Throughput::Elements(1));
        }
        // Only what is chosen is prepared: ten thousand users take a while.
        group.bench_function(&case.name, |bencher| {
            let mut turn = case.prepare();
            bencher.iter(&mut turn);
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
