//! A server that leases keys from a pool: it creates keys, gives a random free one to each client that
//! asks, takes it back when the holder is done or gone, and lets keys die that nobody keeps alive.
//!
//! # Bird's-eye view
//!
//! ```text
//!   socket ── http ── Store ── Memory ──┬ Pool ─┬─ records        id → what is true of the key
//!                    batches   │  │     ├ Pool  ├─ free, labels   hints at free keys, a vector a shard
//!                            clock sweep ┊      ├─ lives, blocks  (deadline, key), ordered
//!                                        ┊      └─ journal        each change of a key, or nothing
//! ```
//!
//! Three ideas carry it:
//!
//! 1. **The record is the truth, everything else is a hint.** A lease draws a hint from the free
//!    vectors and asks the record; a timer pops from an index and asks the record. A hint that is out
//!    of date is dropped, a timer that comes too early is armed again.
//! 2. **A batch of operations is the unit.** Sockets bring many requests at once. What comes together
//!    is executed together ([`store::Store::execute`]), so that cache misses, round trips or flushes
//!    are shared. A single request is a batch of one.
//! 3. **One place changes a record.** Each change is a value, and one function makes it under the
//!    record's guard: record, counters, hint, indexes and journal together (`engine/transition.rs`).
//!
//! # The life of a key
//!
//! ```text
//!            create                lease
//!   (none) ─────────▶ free ───────────────────▶ leased ◀─┐ renew
//!                      ▲   release, or its time   │  └───┘
//!                      ├──────────────────────────┤
//!                      │     its time             │ release with a cool-down
//!                      └───────────── cooling ◀───┘ (also of a free key)
//!   from all: delete, or the end of its life, which each keep-alive moves ──▶ (none)
//! ```
//!
//! A key that is leased or cooling is *blocked*. Where the pool says so, its time does not make a leased key
//! free, but lets it cool down: its holder may still be at work. And where lives are without end, keys only go
//! when they are deleted.
//!
//! # Code map
//!
//! | module | holds | builds on |
//! |---|---|---|
//! | [`time`] | timestamps and clocks, one of them moved by hand | |
//! | [`error`] | what can be refused | |
//! | [`config`] | what an operator may say | |
//! | [`pool`] | names and settings of pools | |
//! | [`key`] | ids, leases, TTLs | `time`, `error`, `pool` |
//! | [`engine`] | the pool: pure, synchronous; `now` and randomness are arguments | `key` |
//! | [`journal`] | changes on disk, and reading them back | `engine` |
//! | [`store`] | the contract of a store, and the one in memory, with or without a journal | `engine`, `journal` |
//! | [`http`] | the API, its errors, connections, TLS, tokens, metrics, the page | `store` |
//! | [`cli`] | arguments, the composition of all, and a client | `http`, `config` |
//!
//! # Invariants
//!
//! `Pool::check_invariants` (`engine/check.rs`) asserts them after each step of the tests.
//!
//! - **A key is served once.** A lease begins under its record's guard, and only for the thread that
//!   took a live hint of the key out of the free vectors.
//! - **Each free key has exactly one live hint in the pool's free vectors, and one in those of each of its
//!   labels**; each blocked key has none. A lease by one of them makes the others stale.
//! - **A label is there as long as a key has it**, with vectors of its own. So a lease that finds no label knows
//!   that no key had it.
//! - **A generation never repeats for a key.** It is odd while the key is leased, and rises with
//!   each lease and each end of one. A request may name the one it is meant for.
//! - **Each key whose life ends has one entry in the index of lives**, at or before that, and one without
//!   end has none; **each blocked key has one in the index of blocks**, at or before the end of that. So nothing ends
//!   unnoticed. An entry that pops too early is armed again at what the record says then: that is how
//!   a keep-alive and most leases get by without touching an index, and why the indexes follow the
//!   number of keys and not of requests.
//! - **Deadlines do not wait for the sweep.** Each operation compares the record with `now`. A
//!   lease that finds no hint ends the leases that are due, and fails only if none is.
//! - **What is due cannot pile up.** Each operation that adds a deadline first handles some that are
//!   due, more than it adds: so keys whose leases have lapsed join the draw, and dead keys give their
//!   memory back, whatever the load. The sweep takes equal shares of all stripes of an index.
//! - **A lease that has lapsed is followed by the cool-down that was set when it lapsed**, whenever that is
//!   noticed. Each shard remembers the last change of it, and before the next one, all that is due is handled.
//! - **Time never runs backwards for a key.** A shard keeps the latest time that was seen there under
//!   a guard, and no operation counts as of an earlier one: what was shown as over stays over.
//! - **An entry leaves the index of blocks only after its effect can be seen.** So a lease that finds
//!   neither a hint nor an entry that is due knows that no key was free.
//! - **An entry stands where its record says**, for the thread that has the record's guard: it is
//!   moved under that guard.
//! - **A pool has a value once.** The index of values is changed under the guard of the key that has the value:
//!   a record is not added if another key has it there, and a dead key that has it is removed first.
//! - **What keys have of their own is where a flag says so**: in tables beside the records of their shard
//!   (`engine/own.rs`). Keys that have nothing pay nothing.
//! - **Only a lease has a holder**, and as long as it is kept there it counts against the holder's quota: both end
//!   in the same change. Before a quota refuses, all that is over in the pool is ended.
//! - **Counts add up at every look**: they are changed under the guards, and read under the shards'
//!   locks.
//! - **Locks:** while a record's guard is held, a hint may be pushed, an index changed (each of its
//!   time buckets has a lock, and each stripe of the index of values), the table of labels looked at, and the journal appended to. Serving waiters holds the queue's lock for up
//!   to 16 leases and about a hundred keys that turn out to be of no use: under it guards are taken, and the locks of
//!   those who receive the leases (a mailbox, a channel), which call nothing. Handling what is due holds
//!   a lock that nobody waits for. A change of settings holds a lock of its own while it takes guards. Other than that no lock is taken while one is held. A guard is held
//!   for about a microsecond, but for a shard's table or vector that grows or shrinks.
//! - **Stale hints**, those of keys that died, began to cool down while they were free, or were leased by a hint
//!   of other vectors, are at most about twice the live ones, and 32 more in each shard: an operation that makes
//!   one in a shard where they prevail drops two others.
//! - **No answer leaves before what it rests on is durable**, not even one that only looked. A store says what that is
//!   ([`store::Store::uncommitted`]). [`store::StoreExt`] and the store's own async methods wait for it; the hot path parks
//!   answers meanwhile, and goes on. A store that keeps nothing has nothing to wait for.
//! - **A key never moves.** In a pool that began small, a bit of its id says in which half it is.
//! - **A walk over all keys sees each key that stays exactly once**, in the order of places that do not
//!   depend on the size of the tables (`engine/place.rs`), without memory for it.
//!
//! # Where the bytes are
//!
//! Resident bytes a key at a million keys: 130 in all, 23 or 24 more while every key is leased as well:
//!
//! | part | bytes | why |
//! |---|---|---|
//! | table of records | 85 | 51 each (id 16, times and generation 34, tag 1), at 60 % full on average |
//! | free vectors | 12 | half an id and 4 bytes of generation |
//! | entry of life | 21 | half an id and 4 bytes of deadline, in B-trees that are two thirds full |
//! | entry of block | 24 | the same, for keys leased in the last minute |
//! | huge pages | 12 | what is freed within one is given back, but not always what was never used |
//!
//! A pool that begins small ([`engine::Size::Growing`]) takes 2.6 KiB while it is empty, and with its first key some
//! 7 KiB more: 8 shards, a skip list for each stripe of its indexes, and longer time buckets. The rest comes when
//! it has some thousand keys (`engine/halves.rs`).
//!
//! What keys have of their own comes on top. A value of 51 characters takes some 190 bytes; a label 75, and each
//! further one 25; a holder of a lease 70, and 65 more for a name of its own.
//!
//! The indexes name a key by half its id, which is enough to find the record. The shards are
//! graded in size, so that their tables do not all double at once. Both are told in
//! `engine/short_id.rs`; why records are packed, in `engine/record.rs`.

#[cfg(test)]
extern crate self as token_orchestrator;

pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod journal;
pub mod key;
pub mod pool;
pub mod store;
pub mod time;

// Unit tests that are too large to stand beside the code.
#[cfg(all(test, not(loom)))]
#[path = "../tests/sim/mod.rs"]
mod sim;
#[cfg(all(test, not(loom)))]
#[path = "../tests/threads/mod.rs"]
mod threads;
