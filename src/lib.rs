//! A server that leases keys from a pool: it creates keys, gives a random free one to whoever
//! asks, takes it back when the holder is done or gone, and lets keys die that nobody keeps alive.
//!
//! # Bird's-eye view
//!
//! ```text
//!   socket ── http ── Store ── Memory ── Pool ─┬─ records   id → what is true of the key
//!                              │  │            ├─ free      hints at free keys, a vector a shard
//!                            clock sweep       └─ lives, holds   (deadline, key), ordered
//! ```
//!
//! One idea carries the [`engine`]: **the record is the truth, everything else is a hint.** A GET
//! draws a hint from the free vectors and asks the record; a timer pops from an index and asks the
//! record. A hint that no longer holds is dropped, a timer that no longer holds does nothing.
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
//! # Code map
//!
//! | module | holds | builds on |
//! |---|---|---|
//! | [`time`] | timestamps and clocks, one of them moved by hand | |
//! | [`error`] | what can be refused | |
//! | [`config`] | what an operator may say | |
//! | [`key`] | ids, leases, TTLs | `time`, `error` |
//! | [`engine`] | the pool: pure, synchronous; `now` and randomness are arguments | `key` |
//! | [`store`] | the contract of a store, and the one in memory | `engine` |
//! | [`http`] | the API in rooms: handlers, event loop, connections and TLS, tokens, metrics, the page | `store` |
//! | [`cli`] | arguments, the composition of all, and a client | `http`, `config` |
//!
//! # Invariants
//!
//! `Pool::check_invariants` asserts them after each step of the tests.
//!
//! - **A key is served once.** A lease begins under its record's guard, and only for the one who
//!   took the key's one hint out of the free vectors.
//! - **Each free key has exactly one live hint**, each leased key none.
//! - **A generation never repeats for a key.** It is odd while the key is leased, and rises with
//!   each lease and each end of one. A request may name the one it is meant for.
//! - **Each key has one entry in the index of lives**, at or before the end of its life; **each
//!   held key (leased or cooling) has one in the index of holds**, at or before the end of that. So
//!   nothing ends unnoticed. An entry that pops too early is armed anew at what the record says then: that
//!   is how a keep-alive and most leases get by without touching an index, and why the indexes
//!   follow the number of keys and not of requests.
//! - **Deadlines do not wait for the sweep.** Each operation compares the record with `now`. A
//!   lease that finds no hint ends the leases that are due, and fails only if none is.
//! - **An entry leaves the index of holds only after its effect is to be seen.** So whoever finds
//!   neither a hint nor an entry that is due knows that no key was free.
//! - **An entry stands where its record says**, for whoever holds the record's guard: it is moved
//!   under that guard.
//! - **Locks:** while a record's guard is held, a hint may be pushed and an index changed: each of its
//!   slices has a lock. Other than that no lock is taken while one is held. None is held for more
//!   than about a microsecond, but for a shard's table or vector that grows or shrinks.
//! - **Stale hints**, those of keys that died or were rested while free, are at most about twice the live ones:
//!   whoever makes one in a shard where they prevail drops two others.
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
//! | entry of hold | 24 | the same, for keys leased in the last minute |
//! | huge pages | 12 | what is freed within one is given back, but not always what was never used |
//!
//! The indexes name a key by half its id, which is enough to find the record. The shards are
//! graded in size, so that their tables do not all double at once. Both are told in
//! `engine/handle.rs`; why records are packed, in `engine/record.rs`.

pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod key;
pub mod store;
pub mod time;
