//! Bodies, answers and refusals as they are sent.

mod body;
mod budget;
mod detail;
mod head;
mod json;
mod list;
mod methods;
mod problem;
mod response;
mod schema;

pub use self::body::{BATCH_BYTES_MAX, BODY_BYTES_MAX};
pub(super) use self::body::{WholeBody, check_coding, object, read, refuse};
pub(super) use self::budget::{AnswerPermit, Budget, HeadPermit, SMALL_BODY_BYTES};
pub(super) use self::head::{HEAD_BYTES_MAX, HTTP2_PREFACE};
pub(super) use self::json::{
    Fields, empty, info, key_id, lease, leased, quoted, time_text, value_bytes_max,
};
pub(super) use self::list::list;
pub(super) use self::methods::{methods, not_allowed, show};
pub(super) use self::problem::{Details, PROBLEM_JSON, Problem, Refusal};
pub(super) use self::response::{json, moved, respond};
pub use self::schema::COUNT_MAX;
pub(super) use self::schema::{
    Created, Empty, IdempotencyKeyHeader, IfMatchHeader, Info, KeyPath, Keys, Leased, Missing,
};
