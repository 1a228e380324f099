//! Snapshots: all keys, so that older segments are not needed.
//!
//! A snapshot is written while the server serves. Each of its keys is as it was at some moment after the snapshot began;
//! the frames since then say what has changed. After its head it has blocks:
//!
//! ```text
//!   0 checksum, CRC-32C of all that follows, begun with the file's own
//!   4 length of the payload
//!   8 number of the block, from 0 on
//!  12 1 in the last block, whose payload is the number of keys; 0 in the others
//!  16 payload: records, sealed if the directory has a key
//! ```

use std::io;

use super::bytes::{Reader, Writer};
use super::disk::{Disk, DiskFile};
use super::error::OpenError;
use super::head::{FileHead, FileKind};
use super::record;
use super::seal::{DataKey, Seal, Sealed};
use crate::engine::Entry;
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// The name of a snapshot that is being written.
pub(crate) const UNFINISHED: &str = "snapshot.tmp";
/// A block is written when it has so many bytes.
const BLOCK_BYTES: usize = 1 << 20;
/// Flushed in steps of this many blocks, so that no commit waits for more.
const BLOCKS_PER_FLUSH: u32 = 4;
const HEAD_BYTES: usize = 16;
/// No block is longer: a record more than [`BLOCK_BYTES`], and what a walk adds at a time.
const LENGTH_MAX: usize = 64 << 20;

/// Writes a snapshot.
pub(crate) struct SnapshotWriter<'a> {
    disk: &'a dyn Disk,
    file: Box<dyn DiskFile>,
    head: FileHead,
    seal: Option<&'a Seal>,
    offset: u64,
    block: u32,
    buffer: Vec<u8>,
    keys: u64,
}

impl<'a> SnapshotWriter<'a> {
    /// Begins a snapshot.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn begin(
        disk: &'a dyn Disk,
        head: FileHead,
        seal: Option<&'a Seal>,
    ) -> io::Result<Self> {
        let file = disk.create(UNFINISHED)?;
        let bytes = head.write();
        file.write_at(0, &bytes)?;
        let (offset, buffer) = (bytes.len() as u64, vec![0; HEAD_BYTES]);
        Ok(Self { disk, file, head, seal, offset, block: 0, buffer, keys: 0 })
    }

    /// Adds a pool and its settings from `at` on. O(1).
    pub(crate) fn add_pool(
        &mut self,
        pool: u32,
        name: &PoolName,
        settings: &Settings,
        at: Timestamp,
    ) {
        record::write_pool(&mut self.buffer, pool, name, settings, at);
    }

    /// Adds a key. O(length).
    pub(crate) fn add_key(&mut self, pool: u32, entry: &Entry) {
        record::write_key(&mut self.buffer, pool, entry);
        self.keys += 1;
    }

    /// Writes what was added, if that is worth it.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn write_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BLOCK_BYTES {
            self.write_block(false)?;
            if self.block.is_multiple_of(BLOCKS_PER_FLUSH) {
                self.file.sync()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self, is_last: bool) -> io::Result<()> {
        if let Some(seal) = self.seal {
            let what = Sealed::Block { snapshot: self.head.number, block: self.block };
            seal.seal(what, &mut self.buffer, HEAD_BYTES);
        }
        let length = self.buffer.len() - HEAD_BYTES;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut out = Writer(&mut head);
        out.number::<4>(0);
        out.number::<4>(length as u64);
        out.number::<4>(self.block.into());
        out.number::<4>(is_last.into());
        self.buffer[..HEAD_BYTES].copy_from_slice(&head);
        let checksum = crc32c::crc32c_append(self.head.seed(), &self.buffer[4..]);
        self.buffer[..4].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_at(self.offset, &self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.block += 1;
        self.buffer.clear();
        self.buffer.resize(HEAD_BYTES, 0);
        Ok(())
    }

    /// Writes the rest. Keys that had died by `now` may be missing. All that the snapshot may have of later frames must be
    /// on disk before [`SnapshotWriter::publish`].
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        if self.buffer.len() > HEAD_BYTES {
            self.write_block(false)?;
        }
        Writer(&mut self.buffer).number::<8>(self.keys);
        self.write_block(true)?;
        self.head.mark = now;
        self.file.write_at(0, &self.head.write())?;
        self.file.sync()
    }

    /// Makes it the snapshot that counts. Returns its length in bytes.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn publish(self) -> io::Result<u64> {
        self.disk.rename(UNFINISHED, &FileKind::Snapshot.name(self.head.number))?;
        self.disk.sync_names()?;
        Ok(self.offset)
    }
}

/// Reads the head of a snapshot.
///
/// # Errors
///
/// [`OpenError`]
pub(crate) fn read_head(disk: &dyn Disk, name: &str) -> Result<FileHead, OpenError> {
    let file = disk.open(name).map_err(OpenError::io(name))?;
    let mut bytes = vec![0; FileHead::ROOM];
    let length = file.read_at(0, &mut bytes).map_err(OpenError::io(name))?;
    FileHead::read(FileKind::Snapshot, name, &bytes[..length])
}

/// Reads a snapshot, and gives the records of each block, and how many bytes were read and are left, to `each`. Returns
/// how many keys it says to have.
///
/// # Errors
///
/// [`OpenError`], and what `each` says is wrong with a block.
pub(crate) fn read(
    disk: &dyn Disk,
    head: &FileHead,
    data_key: Option<&DataKey>,
    mut each: impl FnMut(Reader<'_>, u64, u64) -> Result<(), String>,
) -> Result<u64, OpenError> {
    let name = FileKind::Snapshot.name(head.number);
    let seal = Seal::of_file(data_key, &name, head.salt, head.key_check)?;
    let file = disk.open(&name).map_err(OpenError::io(&name))?;
    // What an earlier process could not write is not on disk, but perhaps still in memory.
    file.sync().map_err(OpenError::io(&name))?;
    file.forget_cache();
    let length = file.length().map_err(OpenError::io(&name))?;
    let (mut offset, mut number, mut bytes) = (FileHead::ROOM as u64, 0, Vec::new());
    loop {
        let damaged = |what: &str| OpenError::damaged(&name, offset, what);
        let is_last = read_block(&*file, head, number, offset, &mut bytes)?;
        let end = offset + bytes.len() as u64;
        let mut records = &mut bytes[HEAD_BYTES..];
        if let Some(seal) = &seal {
            let what = Sealed::Block { snapshot: head.number, block: number };
            records = seal.open(what, records).ok_or_else(|| damaged("a block was changed"))?;
        }
        let mut records = Reader(records);
        if is_last {
            let keys = records.number::<8>().map_err(|_| damaged("its end is cut short"))?;
            if end != length || !records.is_at_end() {
                return Err(damaged("something follows its end"));
            }
            return Ok(keys);
        }
        each(records, end, length).map_err(|what| damaged(&what))?;
        (offset, number) = (end, number + 1);
    }
}

/// Reads the block with this number, which begins at `offset`, into `bytes`, with its head and sealed as it may be. Says
/// whether it is the last one.
///
/// # Errors
///
/// [`OpenError`]: its checksum says that it is not whole.
pub(super) fn read_block(
    file: &dyn DiskFile,
    head: &FileHead,
    number: u32,
    offset: u64,
    bytes: &mut Vec<u8>,
) -> Result<bool, OpenError> {
    let name = FileKind::Snapshot.name(head.number);
    let damaged = |what: &str| OpenError::damaged(&name, offset, what);
    bytes.resize(HEAD_BYTES, 0);
    let read = file.read_at(offset, bytes).map_err(OpenError::io(&name))?;
    let mut fields = Reader(&bytes[..read]);
    let mut field = || fields.u32().map_err(|_| damaged("it ends too early"));
    let (checksum, payload, block, is_last) = (field()?, field()? as usize, field()?, field()?);
    if payload > LENGTH_MAX || block != number || is_last > 1 {
        return Err(damaged("a block does not match its checksum"));
    }
    bytes.resize(HEAD_BYTES + payload, 0);
    let read = file.read_at(offset, bytes).map_err(OpenError::io(&name))?;
    if read < bytes.len() || crc32c::crc32c_append(head.seed(), &bytes[4..]) != checksum {
        return Err(damaged("a block does not match its checksum"));
    }
    Ok(is_last == 1)
}
