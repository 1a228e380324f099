//! `data`: looks at data directories, copies them, and repairs one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::data::{counted, display, existing};
use super::reading::Reading;
use super::repair;
use crate::journal::{Copied, CopyError, copy_directory};
use crate::store::Checked;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Reads a data directory to see whether it is whole, and counts what it has
    ///
    /// It changes nothing. No server may use the directory meanwhile. Exit status 0 if a server can start with the
    /// directory, else 1, after a message that names the file and the byte.
    Check(Check),
    /// Copies a data directory, also while a server uses it: a backup
    ///
    /// The copy has all that was answered before it began. It changes nothing in the directory, and an encrypted one stays
    /// so; its key is not needed. Never let two servers serve a directory and its copy to the same clients: each would
    /// lease the same keys.
    Copy(Copy),
    /// Keeps what is whole of a data directory that a server refuses as damaged, and says what it drops
    ///
    /// First look for a backup, and copy the directory away. No server may use it meanwhile. Changes are kept up to the
    /// first one that cannot be read, and keys of a snapshot as far as they can be read. What was acknowledged after that is
    /// lost. No lease gets an `ETag` that was given before. The damaged files are moved to a directory damaged-… in DIR, with
    /// a report. A directory that is whole is left as it is.
    ///
    /// Exit status 0 if a server can start with the directory now, else 1, after a message: then nothing was changed, or the
    /// message says to run the command again.
    Repair(repair::Repair),
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

#[derive(clap::Args)]
pub(super) struct Copy {
    /// The directory, as --data-dir of the server names it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where the copy is to be: a directory that is empty, or is not there
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Returns what to print.
///
/// # Errors
///
/// What is wrong with the directory.
pub(super) fn run(command: &Command) -> Result<String, String> {
    match command {
        Command::Check(args) => check(args),
        Command::Copy(args) => copy(args),
        Command::Repair(args) => repair::run(args),
    }
}

fn check(args: &Check) -> Result<String, String> {
    let shown = args.directory.display();
    let key = existing(&args.directory, args.data_key_file.as_deref())?;
    let reading = Reading::begin();
    let checked = Checked::read(&args.directory, key, Box::new(reading.progress()))
        .map_err(|error| format!("{shown}: {error}"))?;
    checked.map(|checked| describe(&checked)).ok_or_else(|| has_nothing(&args.directory))
}

fn copy(args: &Copy) -> Result<String, String> {
    existing(&args.directory, None)?;
    let copied = copy_directory(&args.directory, &args.to).map_err(|error| {
        let blamed = if let CopyError::To(_) = error { &args.to } else { &args.directory };
        format!("{}: {error}", blamed.display())
    })?;
    let copied = copied.ok_or_else(|| has_nothing(&args.directory))?;
    let Copied { last_frame, at, files, bytes } = copied;
    Ok(format!(
        "copied      {bytes} bytes in {}\njournal     up to frame {last_frame}\nlast change {}",
        counted(files, "file"),
        display(at)
    ))
}

fn has_nothing(directory: &Path) -> String {
    format!("{} has no data of a server: is it the one that --data-dir names?", directory.display())
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
            format!("number {number}: {} in {} MiB", counted(keys, "key"), mib(bytes))
        }),
    );
    line(
        "journal",
        format!(
            "{} in {} MiB, up to frame {last_frame}",
            counted(*frames, "frame"),
            mib(checked.frame_bytes)
        ),
    );
    line("last change", display(checked.at));
    match &checked.torn {
        None => text.push_str("The directory is whole."),
        Some((file, offset, frames)) => {
            let _ = write!(
                text,
                "The directory is whole up to byte {offset} of {file}. What follows was being written when the server \
                 ended, and {} behind that: a server that starts cuts it off.",
                counted(*frames, "frame")
            );
        }
    }
    text
}
