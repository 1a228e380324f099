//! `data repair`: keeps what is whole of a damaged data directory.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::data::{counted, display, existing};
use super::reading::Reading;
use crate::journal::{FramesKept, Place, Repaired, SnapshotKept};
use crate::store::repair_directory;

/// How many places are named of those that cannot be read.
const PLACES_MAX: usize = 20;

#[derive(clap::Args)]
pub(super) struct Repair {
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
/// Why the directory was not repaired.
pub(super) fn run(args: &Repair) -> Result<String, String> {
    let key = existing(&args.directory, args.data_key_file.as_deref())?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let moved_to = format!("damaged-{}", now.replace(['-', ':'], ""));
    let reading = Reading::begin();
    let progress = || Box::new(reading.progress()) as Box<dyn FnMut(u64, u64)>;
    let report = repair_directory(&args.directory, key.as_ref(), &moved_to, &progress, &describe);
    drop(reading);
    match report {
        Ok(Some(report)) => Ok(report),
        Ok(None) => Ok("The directory is whole: there is nothing to repair.".to_owned()),
        Err(error) => Err(format!("{}: {error}", args.directory.display())),
    }
}

fn describe(repaired: &Repaired) -> String {
    let mut lines = Lines(String::new());
    for Place { file, from, to, what } in repaired.places.iter().take(PLACES_MAX) {
        let at = if from < to { format!(", bytes {from} to {to}") } else { String::new() };
        lines.add("damaged", &format!("{file}{at}: {what}"));
    }
    if let Some(more) = repaired.places.len().checked_sub(PLACES_MAX).filter(|more| *more > 0) {
        lines.add("damaged", &format!("and {}", counted(more, "further place")));
    }
    if let Some(snapshot) = &repaired.snapshot {
        lines.add("snapshot", &of_snapshot(snapshot));
    }
    of_frames(&mut lines, &repaired.frames);
    let Repaired { pools, keys, leased, .. } = repaired;
    let (pools, keys) = (counted(*pools, "pool"), counted(*keys, "key"));
    lines.add("kept", &format!("{pools}, {keys}, of which {leased} are leased"));
    if repaired.unknown_keys > 0 {
        let keys = counted(repaired.unknown_keys, "key");
        let what = "that changes tell of and that were not found, with all these changes";
        lines.add("dropped", &format!("{keys} {what}"));
    }
    if repaired.same_values > 0 {
        let keys = counted(repaired.same_values, "key");
        lines.add("dropped", &format!("{keys} with a value that a later key of the pool has"));
    }
    if !repaired.nameless.is_empty() {
        let names = repaired.nameless.join(", ");
        let what = "pools whose own names and settings were lost";
        lines.add("renamed", &format!("{names}: {what}"));
    }
    let floor = repaired.floor;
    lines.add("ETags", &format!("each lease that follows has one above {floor}"));
    let moved_to = &repaired.moved_to;
    lines.add("moved", &format!("the damaged files are in {moved_to}, with this report"));
    let Lines(mut text) = lines;
    text.push_str(outlook(repaired));
    text
}

/// What that means for those who use the keys.
fn outlook(repaired: &Repaired) -> &'static str {
    let snapshot = repaired.snapshot.as_ref();
    let lost_blocks =
        snapshot.is_some_and(|snapshot| snapshot.blocks_lost > 0 || snapshot.is_headless);
    if repaired.has_lost_frames() {
        "The directory is whole again. What was acknowledged in what is lost is undone: keys that were created are missing, \
         keys that were deleted may be back, and leases that were given, renewed or released since then are not known, so a \
         key may be leased again although a client still has it."
    } else if lost_blocks || repaired.frames.begins_late.is_some() {
        "The directory is whole again. Keys, pools and settings that are missing are lost; the others are as they were last, as \
         far as this report says nothing else."
    } else {
        "The directory is whole again, and nothing that it had is lost."
    }
}

fn of_snapshot(snapshot: &SnapshotKept) -> String {
    let SnapshotKept { number, said, found, blocks_lost, is_headless, is_mixed } = snapshot;
    let said = said.map_or("keys, and how many it had cannot be read".to_owned(), |said| {
        format!("of the {} that it had", counted(said, "key"))
    });
    let mut text = format!("number {number}: found {found} {said}");
    if *blocks_lost > 0 {
        let _ = write!(text, "; {} cannot be read", counted(*blocks_lost, "block"));
    }
    if *is_headless {
        text.push_str(
            "; its head cannot be read, so changes may be missing between it and the journal",
        );
    }
    if *is_mixed {
        text.push_str(
            "; it ends later than the changes that were kept, so its keys are as they were at different moments",
        );
    }
    text
}

fn of_frames(lines: &mut Lines, frames: &FramesKept) {
    let FramesKept { count, begins_late, last, at, unreadable, unknown_segments, dropped, .. } =
        *frames;
    let until = if count == 0 {
        "no frame".to_owned()
    } else {
        format!("{}, up to frame {last} of {}", counted(count, "frame"), display(at))
    };
    let late = begins_late.map_or(String::new(), |first| {
        format!(
            "; those before frame {first} are lost, so only keys are kept that were created later"
        )
    });
    lines.add("journal", &format!("kept {until}{late}"));
    if unreadable > 0 {
        let frames = counted(unreadable, "frame");
        lines.add("lost", &format!("{frames} that cannot be read"));
    }
    if unknown_segments > 0 {
        let segments = counted(unknown_segments, "segment");
        let what = "may have had more frames, which nobody can count";
        lines.add("lost", &format!("{segments} {what}"));
    }
    if dropped > 0 {
        let until = display(frames.dropped_until);
        let behind = counted(dropped, "frame");
        lines.add("lost", &format!("{behind} behind that, which can be read, up to {until}"));
    }
}

/// Lines with a name each.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, what: &str) {
        let _ = writeln!(self.0, "{name:<12}{what}");
    }
}
