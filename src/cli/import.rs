//! `import`: keys that exist elsewhere, from a file.
//!
//! A value is a secret: nothing that is printed here has any part of one.

mod batch;
mod lines;
mod progress;
mod source;

use std::path::PathBuf;

use hyper::Method;
use serde_json::json;
use tokio::task::spawn_blocking;

use self::batch::Batch;
use self::lines::labels;
use self::progress::Progress;
use self::source::Source;
use super::choice::parse_label;
use super::client::ApiRequest;
use super::common::{OfKeys, Session};
use super::counts::number;
use super::failure::Failure;
use super::report::{print, report};
use crate::key::Label;

/// What to import.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The file with the values, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A label for all keys of the file, such as plan:pro; may be repeated. A label of the same name in a line of the
    /// file comes before it
    #[arg(long = "label", value_name = "NAME:VALUE", value_parser = parse_label)]
    labels: Vec<Label>,
    #[command(flatten)]
    common: OfKeys,
}

/// How many lines had which outcome.
#[derive(Default)]
struct Counts {
    created: u64,
    known: u64,
    refused: u64,
    /// The line with which the first request that failed began.
    stopped_at: Option<u64>,
}

/// Imports the keys of a file, and prints how many there were. False if some were refused: which and why is printed.
/// O(batch) of memory.
///
/// # Errors
///
/// The message to print, if it could not go on. What was printed tells how far it came.
pub(super) async fn run(args: Args) -> Result<bool, String> {
    let session = args.common.session()?;
    let labels = labels(&args.labels).map_err(|what| session.error(&what))?;
    let source = Source::open(&args.file, labels);
    let mut source = source.map_err(|error| session.error(&error.to_string()))?;
    let (mut counts, mut progress) = (Counts::default(), Progress::new(source.length()));
    let result = loop {
        // On a thread of its own: if the input comes slowly, the server closes the connection meanwhile, and the client
        // must notice that before it sends its next request.
        let read = spawn_blocking(move || (source.batch(), source));
        let (batch, rest) = read.await.expect("reading does not panic");
        source = rest;
        let batch = match batch {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => batch,
            Err(error) => break Err(session.error(&error.to_string())),
        };
        let sent = send(&session, batch, &mut counts, &mut progress).await;
        if let Err(failure) = sent {
            break Err(session.explain(&failure, ""));
        }
        // A short import shows nothing before its end.
        if source.goes_on() {
            progress.show(source.lines(), source.bytes());
        }
    };
    progress.clear();
    // A failure says all where nothing came before it.
    if result.is_ok() || counts.created + counts.known + counts.refused > 0 {
        print(&counts.told(session.is_json()))?;
    }
    result.map(|()| counts.refused == 0)
}

/// Sends a batch, without the keys that the server names as invalid, and reports what was refused.
async fn send(
    session: &Session,
    mut batch: Batch,
    counts: &mut Counts,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let first = batch.first_line();
    let sent = loop {
        let Some(body) = batch.body() else { break Ok(()) };
        let request = ApiRequest::new(Method::POST, "keys").json(body);
        match session.try_send(request).await {
            Ok(answer) => {
                let created =
                    answer.header("keys-created").and_then(|text| text.parse::<u64>().ok());
                let sent = batch.len();
                let Some(created) = created.filter(|created| *created <= sent) else {
                    break Err(Failure::NoAnswer(
                        "the answer does not say how many keys are new: check that --server is the address \
                         of a token-orchestrator, such as http://localhost:8080"
                            .to_owned(),
                    ));
                };
                counts.created += created;
                counts.known += sent - created;
                break Ok(());
            }
            Err(failure) => match invalid_key(&failure) {
                Some((place, why)) if batch.refuse(place, &why) => {}
                _ => break Err(failure),
            },
        }
    };
    let refused = batch.into_refused();
    if !refused.is_empty() {
        progress.clear();
    }
    for (line, why) in refused {
        counts.refused += 1;
        report(&if session.is_json() {
            json!({"line": line, "detail": why}).to_string()
        } else {
            format!("error: line {line}: {why}.")
        });
    }
    // A refusal of the whole import is no place to go on from.
    let has_begun = counts.created + counts.known > 0;
    counts.stopped_at = first.filter(|_| sent.is_err() && has_begun);
    sent
}

/// The key of a batch that the server has refused, and why, if that is what a failure is about.
fn invalid_key(failure: &Failure) -> Option<(usize, String)> {
    let detail = failure.detail().filter(|_| failure.kind() == Some("invalid-key"))?;
    let (place, why) = detail.split_once("keys[")?.1.split_once(']')?;
    let why = why.trim_start_matches(" is invalid: ").trim_end_matches('.').replace('\n', " ");
    Some((place.parse().ok()?, why))
}

impl Counts {
    fn told(&self, is_json: bool) -> String {
        let Self { created, known, refused, stopped_at } = *self;
        if is_json {
            let mut counts = json!({"created": created, "known": known, "refused": refused});
            if let Some(line) = stopped_at {
                counts["stoppedAt"] = line.into();
            }
            return counts.to_string();
        }
        let number = |count: u64| number(&count.into());
        let stopped = stopped_at.map(|line| {
            format!(
                "; stopped at line {line}: import the file again, because keys that the pool has already are not \
                 added twice"
            )
        });
        format!(
            "{} new, {} in the pool already, {} refused{}",
            number(created),
            number(known),
            number(refused),
            stopped.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, detail: &str) -> Failure {
        let body = json!({"type": format!("/problems/{kind}"), "detail": detail});
        Failure::Refused { status: 422, body, retry_after: None, pool: None }
    }

    #[test]
    fn the_key_that_is_refused_is_found() {
        let detail =
            "Nothing was imported, because keys[17] is invalid: it may have 8 labels at most.";
        let found = invalid_key(&refused("invalid-key", detail));
        assert_eq!(found, Some((17, "it may have 8 labels at most".to_owned())));
        for (kind, detail) in [
            ("invalid-body", detail),
            ("invalid-key", "keys[x] is invalid: so."),
            ("invalid-key", "keys[-1] is invalid: so."),
            ("invalid-key", "a key is invalid"),
        ] {
            assert_eq!(invalid_key(&refused(kind, detail)), None, "{kind} {detail}");
        }
        assert_eq!(invalid_key(&Failure::NoAnswer(detail.to_owned())), None);
    }

    #[test]
    fn counts_are_told_in_one_line() {
        let mut counts = Counts { created: 1234, known: 1, refused: 0, stopped_at: None };
        assert_eq!(counts.told(false), "1,234 new, 1 in the pool already, 0 refused");
        assert_eq!(counts.told(true), r#"{"created":1234,"known":1,"refused":0}"#);
        counts.stopped_at = Some(2001);
        assert!(
            counts.told(false).contains("refused; stopped at line 2001: import the file again")
        );
        assert!(counts.told(true).ends_with(r#","stoppedAt":2001}"#));
    }
}
