//! The lines of the audit log.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::entry::{Entry, Subject};
use crate::key::KeyId;
use crate::pool::PoolName;

/// The longest line, in bytes: all that comes from a client is shorter by far.
const LINE_BYTES: usize = 1024;
/// How many digits of a key's id are shown. The whole id is a secret.
const SHOWN_DIGITS: usize = 8;

/// Writes a line for each request that changes or gives something. Clones write the same log.
#[derive(Clone)]
pub struct AuditLog {
    take: Arc<dyn Fn(Vec<u8>) + Send + Sync>,
    dropped: Arc<AtomicU64>,
}

/// A line. What is not known of a request is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(serialize_with = "shown")]
    time: humantime::Rfc3339Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    method: &'static str,
    route: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    status: u16,
}

/// The line that tells of those that are missing.
#[derive(Serialize)]
struct Dropped {
    #[serde(serialize_with = "shown")]
    time: humantime::Rfc3339Timestamp,
    dropped: u64,
}

fn shown<S: Serializer>(value: impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value)
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(SystemTime::now())
}

impl AuditLog {
    /// A log whose lines `take` gets, each with its newline. It is called by threads that serve clients, so it must
    /// not block. `dropped` counts the lines that were lost. O(1).
    pub fn new(take: impl Fn(Vec<u8>) + Send + Sync + 'static, dropped: Arc<AtomicU64>) -> Self {
        Self { take: Arc::new(take), dropped }
    }

    /// The line that tells how many lines were lost. O(1).
    #[must_use]
    pub fn line_of_dropped(dropped: u64) -> Vec<u8> {
        to_line(&Dropped { time: now(), dropped })
    }

    /// The number of lines that were lost, to be read at any time. O(1).
    pub(in crate::http) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Writes the line of a request that was answered with `status`. O(1).
    pub(in crate::http) fn write(&self, entry: &Entry, status: u16) {
        (self.take)(line(entry, status));
    }
}

fn line(entry: &Entry, status: u16) -> Vec<u8> {
    let mut text = [0; KeyId::TEXT_LEN];
    let (key, keys) = match &entry.subject {
        Some(Subject::One(id)) => (Some(&id.encode(&mut text)[..SHOWN_DIGITS]), None),
        Some(Subject::Many(count)) => (None, Some(*count)),
        None => (None, None),
    };
    to_line(&Line {
        time: now(),
        token: entry.token.as_deref(),
        peer: entry.peer,
        request_id: entry.request_id(),
        trace_id: entry.trace.map(|trace| format!("{:032x}", trace.id)),
        parent_id: entry.trace.map(|trace| format!("{:016x}", trace.parent_id)),
        method: entry.route.method(),
        route: entry.route.template(),
        pool: entry.pool.as_ref().map(PoolName::as_str),
        key,
        keys,
        generation: entry.generation,
        status,
    })
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(LINE_BYTES / 2);
    serde_json::to_writer(&mut line, value).expect("strings and numbers");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::super::ids::Sent;
    use super::*;
    use crate::http::route::Route;

    #[test]
    fn no_line_is_longer_than_it_may_be_and_each_is_one_line() {
        let id = "\"\\".repeat(64);
        let mut sent = Sent::default();
        sent.add_request_id(id.as_bytes());
        sent.add_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let key: KeyId = "936da01f-9abd-4d9d-80c7-02af85c822a8".parse().unwrap();
        let peer = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        for route in Route::ALL {
            let mut entry = Entry::new(*route, sent, Some(peer));
            entry.token = Some("t".repeat(64).into());
            entry.pool = Some("p".repeat(PoolName::LEN_MAX).parse().unwrap());
            entry.generation = Some(u64::MAX);
            for subject in [Subject::One(key), Subject::Many(usize::MAX)] {
                entry.subject = Some(subject);
                let line = line(&entry, 500);
                assert!(line.len() <= LINE_BYTES, "{}", line.len());
                let text = str::from_utf8(&line).unwrap();
                assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
                let line: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(line["requestId"], *id);
                assert_eq!(line["parentId"], "b7ad6b7169203331");
            }
        }
    }
}
