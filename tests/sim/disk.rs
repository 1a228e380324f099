//! A disk that loses what was not synced.
//!
//! At a loss of power each sector that was written since the last flush of its file is kept or lost by itself, so writes
//! reach the disk in any order, and torn. Of changes of names since the last flush of the directory, the first few are
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use token_orchestrator::journal::{Disk, DiskFile};

const SECTOR: usize = 512;

/// Clones share their files. The names of those in a subdirectory begin with its own and a slash.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>, String);

struct State {
    rng: StdRng,
    /// What names stand for now, and on the disk.
    names: Names,
    kept: Names,
    /// The names after each change since the last flush.
    changes: Vec<Names>,
    contents: Vec<Content>,
    /// How many bytes all files may have together.
    room: usize,
    /// After so many operations that change something the power is lost.
    left: Option<usize>,
    is_off: bool,
    /// Flushes and writes fail.
    is_broken: bool,
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            names: Names::new(),
            kept: Names::new(),
            changes: Vec::new(),
            contents: Vec::new(),
            room: usize::MAX,
            left: None,
            is_off: false,
            is_broken: false,
        }));
        Self(state, String::new())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets the power go after so many operations that change something.
    pub(crate) fn fail_after(&self, operations: usize) {
        self.state().left = Some(operations);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Lets all files together have no more than so many bytes.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.state().room = bytes;
    }

    /// How many bytes all files have.
    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.state().is_broken
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state().room < usize::MAX
    }

    /// Lets writes and flushes fail from now on.
    pub(crate) fn fail(&self) {
        self.state().is_broken = true;
    }

    /// The power was lost, and is back.
    pub(crate) fn lose_power(&self) {
        let state = &mut *self.state();
        (state.left, state.is_off, state.is_broken) = (None, false, false);
        let kept = state.rng.random_range(0..=state.changes.len());
        if let Some(names) = kept.checked_sub(1).map(|last| state.changes[last].clone()) {
            state.kept = names;
        }
        (state.names, state.changes) = (state.kept.clone(), Vec::new());
        for content in &mut state.contents {
            for sector in std::mem::take(&mut content.dirty) {
                let begin = sector * SECTOR;
                let end = content.now.len().min(begin + SECTOR);
                if begin < end && state.rng.random_bool(0.5) {
                    content.kept.resize(content.kept.len().max(end), 0);
                    content.kept[begin..end].copy_from_slice(&content.now[begin..end]);
                }
            }
            content.now = content.kept.clone();
        }
    }

    /// The process was killed: what it had given to the system is kept.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        (state.left, state.is_off, state.is_broken) = (None, false, false);
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.contents[state.names[name]].now.clone()
    }

    /// A disk on which a file has other bytes, and all is synced.
    pub(crate) fn with(&self, name: &str, bytes: &[u8]) -> Self {
        let mut files = self.files();
        files.insert(name.to_owned(), bytes.to_vec());
        Self::of(&files)
    }

    /// All files with their bytes; those of subdirectories as well.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let bytes = |content: &usize| state.contents[*content].now.clone();
        state.names.iter().map(|(name, content)| (name.clone(), bytes(content))).collect()
    }

    /// A disk with these files, and all is synced.
    pub(crate) fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new(0);
        let mut state = disk.state();
        for (name, bytes) in files {
            let place = state.contents.len();
            state.names.insert(name.clone(), place);
            let (now, kept) = (bytes.clone(), bytes.clone());
            state.contents.push(Content { now, kept, dirty: BTreeSet::new() });
        }
        state.kept = state.names.clone();
        drop(state);
        disk
    }

    /// The name of a file from the top on.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.1)
    }

    fn file(&self, content: usize) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), content })
    }
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|content| self.contents[*content].now.len()).sum()
    }

    fn change(&mut self) -> Result<()> {
        if self.is_off {
            return Err(Error::other("the power is lost"));
        }
        if let Some(left) = &mut self.left {
            if *left == 0 {
                self.is_off = true;
                return Err(Error::other("the power is lost"));
            }
            *left -= 1;
        }
        if self.is_broken { Err(Error::other("the disk has failed")) } else { Ok(()) }
    }

    fn renamed(&mut self) {
        self.changes.push(self.names.clone());
    }
}

impl Disk for SimDisk {
    fn list(&self) -> Result<Vec<String>> {
        let state = self.state();
        // Directories as well.
        let own = state.names.keys().filter_map(|name| name.strip_prefix(&self.1));
        let names: BTreeSet<_> = own.map(|name| name.split('/').next().unwrap()).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn open(&self, name: &str) -> Result<Box<dyn DiskFile>> {
        let content = *self.state().names.get(&self.full(name)).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(content))
    }

    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?;
        let place = state.contents.len();
        state.contents.push(Content::default());
        state.names.insert(self.full(name), place);
        state.renamed();
        drop(state);
        Ok(self.file(place))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut state = self.state();
        state.change()?;
        let content = state.names.remove(&self.full(from)).ok_or(ErrorKind::NotFound)?;
        state.names.insert(self.full(to), content);
        state.renamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(&self.full(name)).ok_or(ErrorKind::NotFound)?;
        state.renamed();
        Ok(())
    }

    fn sync_names(&self) -> Result<()> {
        let mut state = self.state();
        state.change()?;
        // Those of a subdirectory count as safe once the directory itself was flushed.
        if self.1.is_empty() {
            (state.kept, state.changes) = (state.names.clone(), Vec::new());
        }
        Ok(())
    }

    fn subdirectory(&self, name: &str) -> Result<Box<dyn Disk>> {
        Ok(Box::new(Self(Arc::clone(&self.0), format!("{}{name}/", self.1))))
    }

    fn remove_subdirectory(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        state.change()?;
        let within = format!("{}/", self.full(name));
        let is_empty = !state.names.keys().any(|name| name.starts_with(&within));
        if is_empty { Ok(()) } else { Err(ErrorKind::DirectoryNotEmpty.into()) }
    }
}

struct SimFile {
    disk: SimDisk,
    content: usize,
}

impl DiskFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let state = &mut *self.disk.state();
        let (begin, mut length) = (usize::try_from(offset).unwrap(), bytes.len());
        let was_off = state.is_off;
        let changed = state.change();
        if was_off {
            return changed;
        }
        if changed.is_err() {
            // Some of it may have been written, in whole sectors.
            let end = (begin + state.rng.random_range(0..=length)) / SECTOR * SECTOR;
            length = end.saturating_sub(begin);
        }
        let used = state.used();
        let content = &mut state.contents[self.content];
        let longer = (begin + length).saturating_sub(content.now.len());
        if used + longer > state.room {
            return Err(ErrorKind::StorageFull.into());
        }
        content.now.resize(content.now.len() + longer, 0);
        content.now[begin..begin + length].copy_from_slice(&bytes[..length]);
        if length > 0 {
            content.dirty.extend(begin / SECTOR..=(begin + length - 1) / SECTOR);
        }
        changed
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let state = self.disk.state();
        let now = &state.contents[self.content].now;
        let begin = usize::try_from(offset).unwrap().min(now.len());
        let length = bytes.len().min(now.len() - begin);
        bytes[..length].copy_from_slice(&now[begin..begin + length]);
        Ok(length)
    }

    fn reserve(&self, bytes: u64) -> Result<()> {
        let state = self.disk.state();
        let missing =
            usize::try_from(bytes).unwrap().saturating_sub(state.contents[self.content].now.len());
        if state.used() + missing > state.room {
            Err(ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn length(&self) -> Result<u64> {
        Ok(self.disk.state().contents[self.content].now.len() as u64)
    }

    fn sync(&self) -> Result<()> {
        let state = &mut *self.disk.state();
        let changed = state.change();
        let content = &mut state.contents[self.content];
        if changed.is_ok() {
            content.kept.resize(content.now.len(), 0);
            for sector in &content.dirty {
                let begin = sector * SECTOR;
                let end = content.now.len().min(begin + SECTOR);
                content.kept[begin..end].copy_from_slice(&content.now[begin..end]);
            }
        }
        if changed.is_ok() || state.is_broken {
            // Also what could not be written counts as written from now on.
            content.dirty.clear();
        }
        changed
    }

    fn forget_cache(&self) {
        let state = &mut *self.disk.state();
        let content = &mut state.contents[self.content];
        if content.dirty.is_empty() {
            content.now.clone_from(&content.kept);
        }
    }
}
