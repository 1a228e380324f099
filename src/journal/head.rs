//! The heads of files: what they are, in which format, and who wrote them.
//!
//! ```text
//!   0 what the file is, 8 bytes
//!   8 version of the format
//!  12 checksum, CRC-32C of the fields that follow
//!  16 the directory's own random number
//!  32 number of the file
//!  40 first: in a segment its first frame, 0 while it has none; in a snapshot the first frame to read after it
//!  48 number of the segment before; in a snapshot 0
//!  56 where the frames of that one end
//!  64 floor: no generation below it is given by later changes
//!  72 mark: see `frame.rs`
//!  80 boot: which start of the machine
//!  96 offset: what to add to the time since then, in nanoseconds
//! 104 salt: a random number of the run, of which the key is made if the file is sealed; 16 bytes
//! 120 check of that key, 16 bytes; all zeros if it is not sealed
//! 136 room: how long a segment is at least
//! ```

use super::bytes::{Reader, Writer};
use super::disk::DiskFile;
use super::error::OpenError;
use crate::time::{ClockAnchor, Timestamp};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment,
    Snapshot,
}

/// The head of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHead {
    pub(crate) kind: FileKind,
    /// The directory's own random number: no file of another directory is taken for one of this.
    pub(crate) directory: [u8; 16],
    /// Counts segments, or snapshots, from 1 on.
    pub(crate) number: u64,
    /// In a segment its first frame, or 0 while it has none; in a snapshot the first frame to read after it.
    pub(crate) first: u64,
    /// The segment before, or 0.
    pub(crate) previous: u64,
    /// Where the frames of that one end.
    pub(crate) previous_end: u64,
    /// Changes after this file give no generation below it.
    pub(crate) floor: u64,
    /// When it was written, or until when answers may leave: see [`super::frame::FrameHead::mark`].
    pub(crate) mark: Timestamp,
    /// How the clock ran.
    pub(crate) clock: ClockAnchor,
    /// A random number of the run that has written it, and what the key was made from if it is sealed.
    pub(crate) salt: [u8; 16],
    /// Tells a wrong key; zeros if it is not sealed.
    pub(crate) key_check: [u8; 16],
    /// How long a segment is at least, in bytes: one that is shorter was cut.
    pub(crate) room: u64,
}

/// No number in a head is as high, nor is a generation: keys keep 48 bits of theirs, and there is room for the next ones.
pub(crate) const NUMBER_END: u64 = 1 << 47;

/// The format that this program reads and writes.
pub(crate) const VERSION: u32 = 1;

impl FileKind {
    fn magic(self) -> [u8; 8] {
        match self {
            Self::Segment => *b"TOKORCHJ",
            Self::Snapshot => *b"TOKORCHS",
        }
    }

    /// The name of the file with this number.
    pub(crate) fn name(self, number: u64) -> String {
        match self {
            Self::Segment => format!("segment-{number:012}"),
            Self::Snapshot => format!("snapshot-{number:012}"),
        }
    }

    /// The number of the file with this name, if it is one of this kind.
    pub(crate) fn number(self, name: &str) -> Option<u64> {
        let (_, digits) = name.split_once('-')?;
        let number = digits.parse().ok()?;
        (self.name(number) == name).then_some(number)
    }
}

impl FileHead {
    /// The room that a head takes at the beginning of a file: a page, so that later writes leave it alone. What it says
    /// fits a sector, which a disk writes wholly or not at all.
    pub(crate) const ROOM: usize = 4096;
    const BYTES: usize = 144;
    const COVERED: usize = 16;

    /// A checksum that begins those of the parts of this file, so that no part of another one passes, nor one that another
    /// run has written to it.
    pub(crate) fn seed(&self) -> u32 {
        let seed = crc32c::crc32c(&self.directory);
        let seed = crc32c::crc32c_append(seed, &self.number.to_le_bytes());
        crc32c::crc32c_append(seed, &self.salt)
    }

    /// The head as bytes, with its room.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::ROOM);
        let mut out = Writer(&mut bytes);
        out.bytes(&self.kind.magic());
        out.number::<4>(VERSION.into());
        out.number::<4>(0);
        out.bytes(&self.directory);
        for number in [self.number, self.first, self.previous, self.previous_end, self.floor] {
            out.number::<8>(number);
        }
        out.number::<8>(self.mark.as_ms());
        out.bytes(&self.clock.boot);
        out.number::<8>(self.clock.offset_ns);
        out.bytes(&self.salt);
        out.bytes(&self.key_check);
        out.number::<8>(self.room);
        debug_assert_eq!(bytes.len(), Self::BYTES, "the head has another length");
        let checksum = crc32c::crc32c(&bytes[Self::COVERED..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(Self::ROOM, 0);
        bytes
    }

    /// Reads the head of the file with this name.
    ///
    /// # Errors
    ///
    /// [`OpenError::NewerFormat`], [`OpenError::Damaged`]
    pub(crate) fn read(kind: FileKind, name: &str, bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = |what: &str| OpenError::damaged(name, 0, what);
        let head = bytes.get(..Self::BYTES).ok_or_else(|| damaged("its head is cut short"))?;
        if head[..8] != kind.magic() {
            let is_empty = head.iter().all(|byte| *byte == 0);
            return Err(damaged(if is_empty {
                "it has no head, as in a copy that was interrupted"
            } else {
                "it does not begin as a file of this kind does"
            }));
        }
        let checksum = crc32c::crc32c(&head[Self::COVERED..]).to_le_bytes();
        let mut fields = Reader(&head[8..]);
        let version = fields.u32().unwrap_or_default();
        let has_checksum = fields.array() == Ok(checksum);
        // No later format may have the same checksum: else a version that has changed on the disk would be believed.
        if version > VERSION && !has_checksum {
            return Err(OpenError::NewerFormat { file: name.to_owned(), version, known: VERSION });
        }
        if version != VERSION || !has_checksum {
            return Err(damaged("its head does not match its checksum"));
        }
        let read = |mut fields: Reader<'_>| {
            let directory = fields.array()?;
            let mut number = || fields.number::<8>();
            let (own, first, previous) = (number()?, number()?, number()?);
            let (previous_end, floor, mark) = (number()?, number()?, number()?);
            let clock = ClockAnchor { boot: fields.array()?, offset_ns: fields.number::<8>()? };
            let (salt, key_check, room) = (fields.array()?, fields.array()?, fields.number::<8>()?);
            Ok::<_, super::bytes::Malformed>(Self {
                kind,
                directory,
                number: own,
                first,
                previous,
                previous_end,
                floor,
                mark: Timestamp::from_ms(mark),
                clock,
                salt,
                key_check,
                room,
            })
        };
        let head = read(fields).map_err(|_| damaged("its head is cut short"))?;
        let numbers =
            [head.number, head.first, head.previous, head.previous_end, head.floor, head.room];
        let is_first = kind == FileKind::Snapshot && head.first == 0;
        if numbers.iter().any(|number| *number >= NUMBER_END) || head.floor % 2 == 1 || is_first {
            return Err(damaged(
                "its head says what no server writes, although its checksum is right",
            ));
        }
        if kind.number(name) != Some(head.number) {
            return Err(damaged("its name is that of another file"));
        }
        Ok(head)
    }
}

/// The bytes of a file that its head takes, or as many as it has.
///
/// # Errors
///
/// [`OpenError::Io`]
pub(crate) fn bytes(file: &dyn DiskFile, name: &str) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; FileHead::ROOM];
    let length = file.read_at(0, &mut bytes).map_err(OpenError::io(name))?;
    bytes.truncate(length);
    Ok(bytes)
}
