//! What is known of a directory before it is damaged: where its frames and blocks are.

use std::collections::BTreeMap;

use super::Files;

/// Where heads, frames and blocks begin.
const ROOM: usize = 4096;
/// How long a head is.
const HEAD: usize = 144;

/// A part of a file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) file: String,
    pub(super) from: usize,
    pub(super) to: usize,
}

pub(super) struct Known {
    files: Files,
    /// Frames by their sequences.
    pub(super) frames: BTreeMap<u64, Part>,
    /// The blocks of the newest snapshot, but for the last one.
    pub(super) blocks: Vec<Part>,
    snapshot: Option<(String, u64)>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(bytes.get(at..at + N)?);
    Some(u64::from_le_bytes(number))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    number::<4>(bytes, at).and_then(|number| usize::try_from(number).ok())
}

impl Known {
    pub(super) fn new(files: &Files) -> Self {
        let mut frames = BTreeMap::new();
        for (file, bytes) in files.iter().filter(|(name, _)| name.starts_with("segment-0")) {
            let first = number::<8>(bytes, 40).expect("it has a head");
            let (mut at, mut sequence) = (ROOM, first);
            // A segment that begins with a frame takes the place of those that an earlier one has from there on.
            if first > 0 {
                frames.split_off(&first);
            }
            while first > 0 && number::<8>(bytes, at + 8) == Some(sequence) {
                let to = at + 48 + usize_at(bytes, at + 4).unwrap();
                if to > bytes.len() {
                    break;
                }
                let part = Part { file: file.clone(), from: at, to };
                frames.insert(sequence, part);
                (at, sequence) = (to.next_multiple_of(8), sequence + 1);
            }
        }
        let newest = files.iter().rfind(|(name, _)| name.starts_with("snapshot-0"));
        let snapshot = newest.map(|(name, bytes)| (name.clone(), number::<8>(bytes, 40).unwrap()));
        let mut blocks = Vec::new();
        if let Some((file, bytes)) = newest {
            let mut at = ROOM;
            while number::<4>(bytes, at + 12) == Some(0) {
                let to = at + 16 + usize_at(bytes, at + 4).unwrap();
                blocks.push(Part { file: file.clone(), from: at, to });
                at = to;
            }
        }
        Self { files: files.clone(), frames, blocks, snapshot }
    }

    pub(super) fn is_of_journal(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether nothing has changed of any frame.
    pub(super) fn are_frames_whole(&self, damaged: &Files) -> bool {
        self.frames.values().all(|part| self.is_whole(part, damaged, true))
    }

    /// Whether the head of a segment is not as it was.
    fn is_segment_missing(&self, damaged: &Files) -> bool {
        let is_head_lost = |name: &&String| !self.is_head_whole(name, damaged);
        self.files
            .keys()
            .filter(|name| name.starts_with("segment-0"))
            .any(|name| is_head_lost(&name))
    }

    fn is_whole(&self, part: &Part, damaged: &Files, with_head: bool) -> bool {
        let of = |from: usize, to: usize| {
            let now = damaged.get(&part.file).and_then(|bytes| bytes.get(from..to));
            now == self.files[&part.file].get(from..to)
        };
        of(part.from, part.to) && (!with_head || of(0, HEAD))
    }

    /// Any frame or block of which nothing has changed.
    pub(super) fn first_whole(&self, damaged: &Files) -> Option<&Part> {
        self.frames.values().chain(&self.blocks).find(|part| self.is_whole(part, damaged, true))
    }

    /// Up to which frame all can be kept at least, and at most.
    pub(super) fn kept(&self, damaged: &Files) -> (u64, u64) {
        let mut first = self.snapshot.as_ref().map_or(1, |(_, first)| *first);
        if self.snapshot.as_ref().is_some_and(|(file, _)| !self.is_head_whole(file, damaged)) {
            // Nobody can know where it ends.
            first = 1;
        }
        let kept = |with_head| {
            let is_kept = |sequence: &u64| {
                let part = self.frames.get(sequence);
                part.is_some_and(|part| self.is_whole(part, damaged, with_head))
            };
            (first..).take_while(is_kept).last().unwrap_or(first - 1)
        };
        if first == 1 && self.snapshot.is_some() {
            return (0, u64::MAX);
        }
        let least = if self.is_segment_missing(damaged) && !self.is_reached(first, damaged) {
            // Nobody can know what an earlier start has cut off.
            first - 1
        } else {
            kept(true)
        };
        (least, kept(false))
    }

    /// Whether all frames of the segment are whole that come before a frame.
    fn is_reached(&self, sequence: u64, damaged: &Files) -> bool {
        let file = self.frames.get(&sequence).map(|part| &part.file);
        let mut before = self.frames.range(..sequence).map(|(_, part)| part);
        before.all(|part| Some(&part.file) != file || self.is_whole(part, damaged, true))
    }

    fn is_head_whole(&self, file: &str, damaged: &Files) -> bool {
        let head = Part { file: file.to_owned(), from: 0, to: HEAD };
        self.is_whole(&head, damaged, false)
    }

    /// No more blocks are lost than those that were damaged.
    pub(super) fn check_blocks(&self, damaged: &Files, lost: u64) -> Result<(), String> {
        let is_lost = |part: &&Part| !self.is_whole(part, damaged, false);
        // The last one as well.
        let most = self.blocks.iter().filter(is_lost).count() as u64 + 1;
        if lost <= most { Ok(()) } else { Err(format!("{lost} blocks are lost, and not {most}")) }
    }

    /// Whether a key is in a block of which nothing has changed; not known if the blocks are encrypted.
    pub(super) fn is_in_whole_block(&self, damaged: &Files, id: &[u8; 16]) -> bool {
        self.blocks.iter().filter(|part| self.is_whole(part, damaged, true)).any(|part| {
            let bytes = &self.files[&part.file][part.from..part.to];
            bytes.windows(16).any(|window| window == id)
        })
    }
}
