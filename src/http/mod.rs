//! The HTTP API: the only place that knows axum.
//!
//! ```text
//!   net ─┬───────────────── hot ─┬─ parse, answer: the commonest requests, many connections at a time
//!        │                   ▲   └─ any other ───────────────────┐
//!        │                   ├───── with the next of these ──────┤
//!        ├─ TLS: handshake ──┴─ HTTP/2 ──────────────────────────┼─ hyper (connection) ── router ── handlers
//!        └─ from the address for operators ──────────────────────┘
//! ```
//!
//! A connection has one thread of the hot path and one of hyper's, so that the thread that allocates
//! memory for it also frees it: see `net/workers.rs`.
//!
//! Both the hot path and the router check requests with [`Access`], count their answers (`meter`) and write them to
//! the audit log (`audit`).
//!
//! # Rooms
//!
//! | room | holds | builds on |
//! |---|---|---|
//! | `route` | the methods and paths, and what each of them needs from a token | |
//! | `wire` | bodies and answers byte by byte, limits of their memory, refusals | |
//! | `meter` | counts and latencies of answers, by route, and requests that found no key, by pool | `route` |
//! | `audit` | the lines of the audit log, and what clients call their requests | `route` |
//! | `auth` | tokens, their roles and their pools, requests from other sites | `route`, `wire` |
//! | `api` | the handlers for clients that lease keys | `route`, `wire`, `meter`, `audit` |
//! | `hot` | the event loop, which answers the commonest requests | `meter`, `audit`, `auth` |
//! | `net` | accepting, limits of connections, TLS, connections, draining, the heartbeat | `api`, `hot` |
//! | `ops` | readings, metrics, alarms, the dashboard, probes; only `router` and `serve` use it | `net` |
//! | `docs` | the description of the API, and its page | `api`, `auth` |
//! | `router` | what comes before a handler, and the handler of each route | `net`, `ops`, `docs` |
//! | `serve` | composes all of them | `router` |
//!
//! A room exports what its `mod.rs` names. `tests/it/source.rs` has the table of which room may import which.

mod api;
mod audit;
mod auth;
mod docs;
mod hot;
mod meter;
mod net;
mod ops;
mod route;
mod router;
mod serve;
mod wire;

pub use self::api::Timeouts;
pub use self::audit::AuditLog;
pub use self::auth::{
    Access, Pools, Role, TokenHash, check_name, check_quota, new_token, parse_max_held,
};
pub use self::net::{Heartbeat, Tls};
pub use self::serve::{Listeners, ServeOptions, serve};
pub use self::wire::{BATCH_BYTES_MAX, BODY_BYTES_MAX, COUNT_MAX};
