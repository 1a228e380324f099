//! The files of a damaged directory, and their heads.

use std::collections::BTreeMap;

use super::report::{Place, RepairError};
use crate::journal::disk::Disk;
use crate::journal::error::OpenError;
use crate::journal::frame::FrameHead;
use crate::journal::head::{self, FileHead, FileKind};
use crate::journal::seal::{DataKey, Seal};
use crate::time::Timestamp;

/// A file whose head was looked at.
pub(super) struct Found {
    pub(super) number: u64,
    /// How long it is, in bytes.
    pub(super) length: u64,
    /// What its head says, or what is wrong with it.
    pub(super) head: Result<FileHead, String>,
}

/// The files of a damaged directory.
pub(super) struct Files {
    /// Segments, in order.
    pub(super) segments: Vec<Found>,
    /// Snapshots, in order.
    pub(super) snapshots: Vec<Found>,
}

impl Files {
    /// Reads the heads of all files. O(f) for f files.
    ///
    /// # Errors
    ///
    /// If there is none, another version of the program is needed, or another key.
    pub(super) fn find(disk: &dyn Disk, data_key: Option<&DataKey>) -> Result<Self, RepairError> {
        let names = disk.list().map_err(OpenError::io(""))?;
        let of = |kind: FileKind| {
            let numbers = names.iter().filter_map(|name| kind.number(name));
            let mut found: Vec<_> =
                numbers.map(|number| look(disk, kind, number)).collect::<Result<_, _>>()?;
            found.sort_by_key(|file| file.number);
            Ok::<_, OpenError>(found)
        };
        let mut files =
            Self { segments: of(FileKind::Segment)?, snapshots: of(FileKind::Snapshot)? };
        if files.segments.is_empty() && files.snapshots.is_empty() {
            return Err(RepairError::Empty);
        }
        files.leave_out_others();
        for head in files.heads() {
            Seal::of_file(data_key, &head.kind.name(head.number), head.salt, head.key_check)?;
        }
        Ok(files)
    }

    /// All heads that can be read.
    pub(super) fn heads(&self) -> impl Iterator<Item = &FileHead> {
        self.segments.iter().chain(&self.snapshots).filter_map(|file| file.head.as_ref().ok())
    }

    /// The head of the file that was made last, of those that can be read.
    pub(super) fn newest(&self) -> Option<&FileHead> {
        let newest = self.segments.iter().rev().find_map(|file| file.head.as_ref().ok());
        newest.or(self.snapshots.last().and_then(|file| file.head.as_ref().ok()))
    }

    /// Most files are of this directory. Others were put there by mistake.
    fn leave_out_others(&mut self) {
        let mut counts = BTreeMap::<[u8; 16], usize>::new();
        self.heads().for_each(|head| *counts.entry(head.directory).or_default() += 1);
        let own = counts.into_iter().max_by_key(|(_, count)| *count).map(|(own, _)| own);
        for file in self.segments.iter_mut().chain(&mut self.snapshots) {
            if file.head.as_ref().is_ok_and(|head| Some(head.directory) != own) {
                file.head = Err("it belongs to another directory".to_owned());
            }
        }
    }

    /// Heads that a file may have had whose own cannot be read: those of the runs that wrote the other files.
    fn candidates(&self, kind: FileKind, number: u64) -> Vec<FileHead> {
        let mut candidates: Vec<FileHead> = Vec::new();
        for head in self.heads() {
            if candidates.iter().all(|known| known.salt != head.salt) {
                let unknown = FileHead { first: 0, previous: 0, previous_end: 0, room: 0, ..*head };
                candidates.push(FileHead {
                    kind,
                    number,
                    floor: 0,
                    mark: Timestamp::default(),
                    ..unknown
                });
            }
        }
        candidates
    }

    /// The head of a segment, or one that agrees with its first frame. `None` if none is known, or it has no frames.
    pub(super) fn segment_head(&self, file: &Found, bytes: &[u8]) -> Option<FileHead> {
        if let Ok(head) = &file.head {
            return (head.first > 0).then_some(*head);
        }
        let candidates = self.candidates(FileKind::Segment, file.number);
        candidates.into_iter().find_map(|head| {
            let (frame, _) = FrameHead::read(bytes.get(FileHead::ROOM..)?, head.seed())?;
            Some(FileHead { first: frame.sequence, mark: frame.mark, ..head })
        })
    }

    /// The heads that a snapshot may have: its own, or what others let expect.
    pub(super) fn snapshot_heads(&self, file: &Found) -> Vec<FileHead> {
        match &file.head {
            Ok(head) => vec![*head],
            Err(_) => self.candidates(FileKind::Snapshot, file.number),
        }
    }
}

impl Found {
    /// The first frame of a segment, 0 if it has none; `None` if its head cannot be read.
    pub(super) fn first(&self) -> Option<u64> {
        self.head.as_ref().ok().map(|head| head.first)
    }

    /// The whole file, as a place that cannot be read.
    pub(super) fn place(&self, kind: FileKind, what: &str) -> Place {
        Place { file: kind.name(self.number), from: 0, to: self.length, what: what.to_owned() }
    }
}

/// Looks at the head of a file.
fn look(disk: &dyn Disk, kind: FileKind, number: u64) -> Result<Found, OpenError> {
    let name = kind.name(number);
    let file = disk.open(&name).map_err(OpenError::io(&name))?;
    file.sync().map_err(OpenError::io(&name))?;
    file.forget_cache();
    let length = file.length().map_err(OpenError::io(&name))?;
    let head = match FileHead::read(kind, &name, &head::bytes(&*file, &name)?) {
        Ok(head) => Ok(head),
        Err(OpenError::Damaged { what, .. }) => Err(what),
        Err(error) => return Err(error),
    };
    Ok(Found { number, length, head })
}
