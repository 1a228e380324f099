//! The HTTP API: the only place that knows axum.
//!
//! ```text
//!   net ─┬─ hot ─┬─ parse, answer: the commonest requests, many connections at a time
//!        │       └─ any other ───────────────────┐
//!        ├─ with TLS: handshake ─────────────────┼─ hyper (connection) ── router ── handlers
//!        └─ from the address for operators ──────┘
//! ```
//!
//! Both the hot path and the router ask [`Access`] who may do what, and count what they answered
//! (`meter`).
//!
//! # Rooms
//!
//! | room | holds | builds on |
//! |---|---|---|
//! | `route` | the methods and paths that there are, and what each asks of its sender | |
//! | `wire` | bodies and answers byte by byte, limits of their memory, refusals | |
//! | `meter` | how often each route was answered so, and how long that took | `route` |
//! | `auth` | tokens and their roles, requests from other sites | `route`, `wire` |
//! | `api` | the handlers for those who lease keys | `wire` |
//! | `hot` | the event loop, which answers the commonest requests | `meter`, `auth` |
//! | `net` | accepting, limits of connections, TLS, a connection, the end of all | `api`, `hot` |
//! | `ops` | readings, metrics, alarms, the page, probes: reads all, and nobody reads it | `net` |
//! | `docs` | the description of the API, and its page | `api`, `auth` |
//! | `router` | which handler a request goes to | `ops`, `docs` |
//! | `serve` | puts all of them together | `router` |
//!
//! Each room is known to others by what its `mod.rs` names. `tests/it/source.rs` holds the table of who
//! may import whom.

mod api;
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

pub use self::api::Limits;
pub use self::auth::{Access, Role, TokenHash, check_name, new_token};
pub use self::net::Tls;
pub use self::serve::{Listeners, ServeOptions, serve};
pub use self::wire::{BODY_BYTES_MAX, COUNT_MAX};
