//! Reading what is whole of a snapshot.

use std::cell::OnceCell;
use std::ops::Range;

use super::files::{Files, Found};
use super::report::{Place, SnapshotKept};
use super::taker::Taker;
use crate::journal::bytes::Reader;
use crate::journal::checksums::Prefixes;
use crate::journal::disk::{Disk, DiskFile};
use crate::journal::error::OpenError;
use crate::journal::head::{FileHead, FileKind};
use crate::journal::seal::{DataKey, Seal};
use crate::journal::snapshot::{Block, HEAD_BYTES, read_block};

/// How much is read at a time while the next block is looked for.
const STEP: usize = 1 << 20;

/// What was read of a snapshot.
pub(super) struct Blocks {
    /// Its head, or one with the numbers of the run that has written it.
    pub(super) head: FileHead,
    pub(super) kept: SnapshotKept,
    pub(super) places: Vec<Place>,
}

/// Reads what is whole of a snapshot, and gives it to `taker`. `None` if that is nothing. O(bytes).
///
/// # Errors
///
/// [`OpenError::Io`]
pub(super) fn read(
    disk: &dyn Disk,
    files: &Files,
    snapshot: &Found,
    data_key: Option<&DataKey>,
    taker: &mut Taker<'_>,
) -> Result<Option<Blocks>, OpenError> {
    let name = FileKind::Snapshot.name(snapshot.number);
    let file = disk.open(&name).map_err(OpenError::io(&name))?;
    let prefixes = OnceCell::new();
    for head in files.snapshot_heads(snapshot) {
        let seal = Seal::of_file(data_key, &name, head.salt, head.key_check)?;
        let reading =
            Reading { file: &*file, name: &name, head, seal: seal.as_ref(), prefixes: &prefixes };
        // With the numbers of another run, no block is whole.
        let begin = reading.next(FileHead::ROOM as u64, 0, &mut Vec::new());
        let begin = begin.map_err(OpenError::io(&name))?;
        if begin.is_none() && snapshot.head.is_err() {
            continue;
        }
        taker.dead_by = head.mark;
        taker.may_miss_pools |= snapshot.head.is_err();
        let mut blocks = reading.read(taker).map_err(OpenError::io(&name))?;
        if let Err(what) = &snapshot.head {
            let to = FileHead::ROOM as u64;
            blocks.places.insert(0, Place { file: name, from: 0, to, what: what.clone() });
        }
        return Ok(Some(blocks));
    }
    Ok(None)
}

struct Reading<'f> {
    file: &'f dyn DiskFile,
    name: &'f str,
    head: FileHead,
    seal: Option<&'f Seal>,
    /// Of the file, whatever its head is. They are made when something may be a long block.
    prefixes: &'f OnceCell<Prefixes>,
}

impl Reading<'_> {
    fn read(&self, taker: &mut Taker<'_>) -> std::io::Result<Blocks> {
        let number = self.head.number;
        let is_headless = self.head.first == 0;
        let kept = SnapshotKept { number, is_headless, ..SnapshotKept::default() };
        let mut blocks = Blocks { head: self.head, kept, places: Vec::new() };
        let (mut offset, mut expected, mut bytes) = (FileHead::ROOM as u64, 0, Vec::new());
        let length = self.file.length()?;
        let before = taker.whole;
        loop {
            let next = self.next(offset, expected, &mut bytes)?;
            let at = next.map_or(length, |(at, _)| at);
            if at > offset || next.is_none() {
                // Without a whole block behind it, at least the one is lost that ends the snapshot.
                let lost = next.map_or(1, |(_, block)| u64::from(block.number - expected));
                self.drop_part(&mut blocks, taker, offset, at, lost);
            }
            let Some((at, block)) = next else { break };
            let end = at + block.length;
            let opened = block.open(number, self.seal, &mut bytes);
            if block.is_last {
                blocks.kept.said = opened.and_then(|mut said| said.number::<8>().ok());
                break;
            }
            match opened.and_then(|records| taker.decode(records)) {
                Some(records) => taker.take(records),
                None => self.drop_part(&mut blocks, taker, at, end, 1),
            }
            (offset, expected) = (end, block.number + 1);
        }
        blocks.kept.found = taker.whole - before;
        Ok(blocks)
    }

    /// Notes that a part cannot be read. It may have had pools.
    fn drop_part(&self, blocks: &mut Blocks, taker: &mut Taker<'_>, from: u64, to: u64, lost: u64) {
        taker.may_miss_pools = true;
        blocks.kept.blocks_lost += lost;
        let what = format!("blocks that do not match their checksums: {lost}");
        blocks.places.push(Place { file: self.name.to_owned(), from, to, what });
    }

    /// The first whole block from `offset` on with a number from `least` on, which is read into `bytes`, and where it begins.
    /// Behind damage it may begin at any byte.
    fn next(
        &self,
        offset: u64,
        least: u32,
        bytes: &mut Vec<u8>,
    ) -> std::io::Result<Option<(u64, Block)>> {
        let read_at = |place: u64, bytes: &mut Vec<u8>| {
            let block = read_block(self.file, place, self.head.seed(), bytes)?;
            Ok::<_, std::io::Error>(block.filter(|block| block.number >= least))
        };
        if let Some(block) = read_at(offset, bytes)? {
            return Ok(Some((offset, block)));
        }
        let length = self.file.length()?;
        let (mut at, mut window) = (offset, vec![0; STEP + HEAD_BYTES]);
        while at + HEAD_BYTES as u64 <= length {
            let read = self.file.read_at(at, &mut window)?;
            for begin in 0..=(read - HEAD_BYTES).min(STEP - 1) {
                let Some(head) = Block::head(&window[begin..]) else { continue };
                let place = at + begin as u64;
                let is_credible = head.number.checked_sub(least).is_some_and(|later| {
                    u64::from(later) <= length / HEAD_BYTES as u64 && place + head.length <= length
                });
                if is_credible
                    && self.may_be_whole(place, head.length, &window[begin..])?
                    && let Some(block) = read_at(place, bytes)?
                {
                    return Ok(Some((place, block)));
                }
            }
            at += STEP as u64;
        }
        Ok(None)
    }

    /// Whether a block of so many bytes, which begins with `head`, may be whole. O(1), but for the first time.
    fn may_be_whole(&self, place: u64, length: u64, head: &[u8]) -> std::io::Result<bool> {
        if length < 2 * Prefixes::BLOCK as u64 {
            return Ok(true);
        }
        let begin = usize::try_from(place).expect("64 bits");
        let end = begin + usize::try_from(length).expect("64 bits");
        let mut bytes = [0; 2 * Prefixes::BLOCK];
        let prefixes = if let Some(made) = self.prefixes.get() {
            made
        } else {
            let made = self.checksums()?;
            self.prefixes.get_or_init(|| made)
        };
        let append = |sum, part: Range<usize>| {
            let bytes = &mut bytes[..part.len()];
            let read = self.file.read_at(part.start as u64, bytes)?;
            Ok::<_, std::io::Error>(crc32c::crc32c_append(sum, &bytes[..read]))
        };
        let found = prefixes.of(begin + 4..end, self.head.seed(), append)?;
        Ok(Reader(head).u32() == Ok(found))
    }

    fn checksums(&self) -> std::io::Result<Prefixes> {
        let (length, mut at) = (self.file.length()?, 0);
        let (mut prefixes, mut bytes) = (Prefixes::new(), vec![0; STEP]);
        while at < length {
            let read = self.file.read_at(at, &mut bytes)?;
            prefixes.extend(&bytes[..read]);
            at += STEP as u64;
        }
        Ok(prefixes)
    }
}
