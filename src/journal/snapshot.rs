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
use super::head::{self, FileHead, FileKind};
use super::record;
use super::seal::{DataKey, Seal, Sealed};
use crate::engine::Entry;
use crate::pool::{PoolName, Settings};
use crate::time::Timestamp;

/// The name of a snapshot that is being written.
pub(crate) const UNFINISHED: &str = "snapshot.tmp";
/// A block is written when it has so many bytes. In unit tests a few keys fill one.
const BLOCK_BYTES: usize = if cfg!(test) { 512 } else { 1 << 20 };
/// Flushed in steps of this many blocks, so that no commit waits for more.
const BLOCKS_PER_FLUSH: u32 = 4;
/// How long the head of a block is.
pub(crate) const HEAD_BYTES: usize = 16;
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
    FileHead::read(FileKind::Snapshot, name, &head::bytes(&*file, name)?)
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
        if offset + HEAD_BYTES as u64 > length {
            return Err(damaged("it ends too early"));
        }
        let block = read_block(&*file, offset, head.seed(), &mut bytes);
        let block = block.map_err(OpenError::io(&name))?.filter(|block| block.number == number);
        let block = block.ok_or_else(|| damaged("a block does not match its checksum"))?;
        let records = block.open(head.number, seal.as_ref(), &mut bytes);
        let mut records = records.ok_or_else(|| damaged("a block was changed"))?;
        let end = offset + block.length;
        if block.is_last {
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

/// A block whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) number: u32,
    pub(crate) is_last: bool,
    /// How many bytes it has, with its head.
    pub(crate) length: u64,
}

impl Block {
    /// What the head of a block says, if it may be one.
    pub(crate) fn head(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader(bytes.get(4..HEAD_BYTES)?);
        let mut field = || fields.u32().ok();
        let (payload, number, is_last) = (field()? as usize, field()?, field()?);
        let length = (HEAD_BYTES + payload) as u64;
        (payload <= LENGTH_MAX && is_last <= 1).then_some(Self {
            number,
            is_last: is_last == 1,
            length,
        })
    }

    /// The records of the block that was read into `bytes` from a snapshot; `None` if they were changed.
    pub(crate) fn open<'b>(
        &self,
        snapshot: u64,
        seal: Option<&Seal>,
        bytes: &'b mut [u8],
    ) -> Option<Reader<'b>> {
        let records = &mut bytes[HEAD_BYTES..];
        let Some(seal) = seal else { return Some(Reader(records)) };
        let what = Sealed::Block { snapshot, block: self.number };
        seal.open(what, records).map(|records| Reader(records))
    }
}

/// Reads the block at `offset` into `bytes`. `None` if there is none whose checksum is right. O(length).
///
/// # Errors
///
/// As the disk says.
pub(crate) fn read_block(
    file: &dyn DiskFile,
    offset: u64,
    seed: u32,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<Block>> {
    bytes.resize(HEAD_BYTES, 0);
    let read = file.read_at(offset, bytes)?;
    let Some(block) = Block::head(&bytes[..read]) else { return Ok(None) };
    bytes.resize(usize::try_from(block.length).expect("it is short"), 0);
    let read = file.read_at(offset, bytes)?;
    let is_whole =
        read == bytes.len() && Reader(bytes).u32() == Ok(crc32c::crc32c_append(seed, &bytes[4..]));
    Ok(is_whole.then_some(block))
}
