//! Resident bytes a key, measured at the process as a whole.
//!
//! `cargo bench --bench memory [-- KEYS]`

use std::fs;

use rand::SeedableRng;
use rand::rngs::StdRng;
use token_orchestrator::engine::Pool;
use token_orchestrator::key::{KeyId, Ttl};
use token_orchestrator::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

fn main() {
    let keys: u64 = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let mut rng = StdRng::seed_from_u64(1);
    let pool = Pool::new(Ttl::default(), usize::MAX, std::env::var("SHARDS").map_or(256, |s| s.parse().unwrap()));
    let empty = resident_bytes();
    let report = |what: &str| {
        let used = resident_bytes().saturating_sub(empty);
        let (whole, tenth) = (used / keys, used * 10 / keys % 10);
        println!("{what:<28} {whole:>4}.{tenth} bytes a key, {empty} before the first");
    };

    let at = |i: u64| Timestamp::from_ms(i / 50);
    for i in 0..keys {
        let mut room = pool.reserve(1, at(i)).expect("room");
        assert!(room.create(KeyId::random(&mut rng), at(i)));
    }
    report("created one by one, free");
    let t = std::time::Instant::now();
    for i in 0..keys {
        pool.lease(at(keys + i), &mut rng).expect("a free key");
    }
    println!("lease {:?}", t.elapsed() / keys as u32);
    report("all leased");
    while pool.expire(at(keys * 2).plus_ms(Ttl::default().lease_ttl_ms.into()), 64) == 64 {}
    report("all leases ended");
    while pool.expire(Timestamp::MAX, 64) == 64 {}
    pool.check_invariants();
    report("all dead");
}
