//! `data`: looks at a data directory that no server uses.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::data::read_key;
use super::reading::Reading;
use crate::store::Checked;
use crate::time::Timestamp;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Reads a data directory to see whether it is whole, and counts what it has
    ///
    /// It changes nothing. No server may use the directory meanwhile. Exit status 0 if a server can start with the
    /// directory, else 1, after a message that names the file and the byte.
    Check(Check),
}

#[derive(clap::Args)]
pub(super) struct Check {
    /// The directory, as --data-dir of the server names it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The key that it is encrypted with, as --data-key-file of the server
    #[arg(long, value_name = "FILE")]
    data_key_file: Option<PathBuf>,
}

/// Returns what to print.
///
/// # Errors
///
/// What is wrong with the directory.
pub(super) fn run(Command::Check(args): &Command) -> Result<String, String> {
    let shown = args.directory.display();
    if !args.directory.is_dir() {
        return Err(format!(
            "{shown} is no directory: name the one that --data-dir of the server names"
        ));
    }
    let key = args.data_key_file.as_deref().map(read_key).transpose();
    let key = key.map_err(|error| format!("--data-key-file: {error}"))?;
    let reading = Reading::begin();
    let checked = Checked::read(&args.directory, key, Box::new(reading.progress()));
    let checked = checked.map_err(|error| format!("{shown}: {error}"))?;
    let Some(checked) = checked else {
        return Err(format!(
            "{shown} has no data of a server: is it the one that --data-dir names?"
        ));
    };
    Ok(describe(&checked))
}

fn describe(checked: &Checked) -> String {
    let Checked { pools, keys, leased, frames, last_frame, .. } = checked;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("pools", pools.to_string());
    line("keys", format!("{keys}, of which {leased} are leased"));
    line(
        "snapshot",
        checked.snapshot.map_or("none".to_owned(), |(number, keys, bytes)| {
            format!("number {number}: {keys} keys in {} MiB", mib(bytes))
        }),
    );
    line(
        "journal",
        format!("{frames} frames in {} MiB, up to frame {last_frame}", mib(checked.frame_bytes)),
    );
    line("last change", display(checked.at));
    match &checked.torn {
        None => text.push_str("The directory is whole."),
        Some((file, offset, frames)) => {
            let _ = write!(
                text,
                "The directory is whole up to byte {offset} of {file}. What follows was being written when the server \
                 ended, and {frames} frames behind that: a server that starts cuts it off."
            );
        }
    }
    text
}

/// A time of the directory's clock, which was the wall clock's when the directory was new.
fn display(at: Timestamp) -> String {
    let unix = Duration::from_millis(Timestamp::EPOCH_UNIX_MS + at.as_ms());
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + unix).to_string()
}
