//! The log: its level and its format.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tracing::warn;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_writer::{LastLines, Lines};

/// How many lines may wait to be written: some hundred kilobytes.
const LINES_MAX: usize = 2000;
/// The variable that sets how much is logged, such as `debug` or `info,h2=debug`.
const LEVELS: &str = "RUST_LOG";

/// How the log is written.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Text for people, one event a line
    Human,
    /// JSON, one object a line
    Json,
}

/// A log that was started.
pub(super) struct Log {
    /// How many lines were dropped because nobody read standard error.
    pub(super) dropped: Arc<AtomicU64>,
    /// When this is dropped, the last lines are written.
    _last: LastLines,
}

/// Starts the log, on standard error.
///
/// # Errors
///
/// If the system has no more threads.
pub(super) fn start(format: LogFormat) -> io::Result<Log> {
    let text = env::var(LEVELS).unwrap_or_default();
    let (targets, unknown) = filter(&text);
    let log = tracing_subscriber::registry().with(targets);
    let (writer, last) =
        Lines::start(io::stderr(), LINES_MAX, move |dropped| told(format, dropped))?;
    let dropped = writer.dropped();
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        // It would panic when standard error is closed.
        .log_internal_errors(false);
    match format {
        LogFormat::Human => log.with(lines).init(),
        LogFormat::Json => log.with(lines.with_ansi(false).json().flatten_event(true)).init(),
    }
    for directive in unknown {
        warn!(
            "{LEVELS}: ignored {directive:?}; it must be LEVEL or TARGET=LEVEL, such as debug or h2=debug"
        );
    }
    Ok(Log { dropped, _last: last })
}

/// The line that tells how many were dropped.
fn told(format: LogFormat, dropped: u64) -> Vec<u8> {
    let message = format!("lines of the log that were dropped, as nobody read it: {dropped}");
    let line = match format {
        LogFormat::Human => format!(" WARN token_orchestrator: {message}\n"),
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": "WARN", "message": message }))
        }
    };
    line.into_bytes()
}

/// The filter that the text of [`LEVELS`] describes, and the directives in it that are malformed.
fn filter(text: &str) -> (Targets, Vec<&str>) {
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let is_known = |directive: &&str| directive.parse::<Targets>().is_ok();
    let (mut known, unknown): (Vec<_>, _) = directives.partition(is_known);
    let names_us = |directive: &&str| {
        directive.starts_with("token_orchestrator") || directive.parse::<LevelFilter>().is_ok()
    };
    if known.is_empty() {
        known.push("info");
    } else if !known.iter().any(names_us) {
        // Directives for other crates do not silence this one.
        known.push("token_orchestrator=info");
    }
    if !known.iter().any(|directive| directive.starts_with("h2")) {
        // It warns of each mistake of a client, such as a PING that is acknowledged twice. Clients could fill
        // the disk with it, or block the server if its standard error is a full pipe.
        known.push("h2=error");
    }
    if !known.iter().any(|directive| directive.starts_with("redis")) {
        // It warns of each attempt to reach a node that is down, hundreds a second. The store tells of that once.
        known.push("redis=off");
    }
    (known.join(",").parse().expect("each of them is a directive"), unknown)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_logged_is_what_was_asked_for() {
        const US: &str = "token_orchestrator::http";
        for (text, ours, of_h2, of_others) in [
            ("", Level::INFO, Level::ERROR, Some(Level::INFO)),
            (" debug ", Level::DEBUG, Level::ERROR, Some(Level::DEBUG)),
            ("h2=debug", Level::INFO, Level::DEBUG, None),
            ("warn,h2=info", Level::WARN, Level::INFO, Some(Level::WARN)),
            ("token_orchestrator=trace", Level::TRACE, Level::ERROR, None),
            ("hyper=warn,", Level::INFO, Level::ERROR, None),
        ] {
            let (targets, unknown) = filter(text);
            assert!(unknown.is_empty(), "{text}");
            let level = |target: &str| {
                let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
                levels.into_iter().find(|level| targets.would_enable(target, level))
            };
            assert_eq!((level(US), level("h2::proto")), (Some(ours), Some(of_h2)), "{text}");
            assert_eq!(level("other"), of_others, "{text}");
        }
        assert_eq!(filter("h2=loud,debug,a[b{c=1}]").1, ["h2=loud", "a[b{c=1}]"]);
    }
}
