//! The last part of a repair: damaged files make way, and whole ones take their place.
//!
//! That takes many steps. While they are under way, a file says so: no server uses the directory then, and the next repair
//! goes on with them. So a crash leaves the damaged directory, one that is refused, or the repaired one.

use std::io;

use super::disk::Disk;
use super::head::FileKind;
use super::{snapshot, spares};

/// The file that is there while the steps are under way.
pub(crate) const UNFINISHED: &str = "repair-unfinished";
/// The directory in which whole files are made.
pub(crate) const MAKING: &str = "repair.tmp";
/// The name of the report, beside the damaged files.
pub(crate) const REPORT: &str = "report.txt";

/// What is to be done, and what the operator is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The directory that damaged files go to.
    pub(crate) damaged: String,
    /// The files that take their place.
    pub(crate) new: Vec<String>,
    pub(crate) report: String,
}

impl Plan {
    /// The plan that was under way when a repair ended, if one was.
    ///
    /// # Errors
    ///
    /// As the disk says, or if the plan cannot be read.
    pub(crate) fn find(disk: &dyn Disk) -> io::Result<Option<Self>> {
        if !disk.list()?.iter().any(|name| name == UNFINISHED) {
            return Ok(None);
        }
        let file = disk.open(UNFINISHED)?;
        let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let read = file.read_at(0, &mut bytes)?;
        let text = String::from_utf8(bytes[..read].to_vec()).map_err(io::Error::other)?;
        let (files, report) = text.split_once("\n\n").ok_or(io::ErrorKind::InvalidData)?;
        let mut files = files.lines().map(str::to_owned);
        let damaged = files.next().ok_or(io::ErrorKind::InvalidData)?;
        let plan = Self { damaged, new: files.collect(), report: report.to_owned() };
        // Who may write to the directory may have written this, and has no say elsewhere.
        let is_here = |name: &String| !name.contains('/');
        if !is_here(&plan.damaged)
            || !plan.damaged.starts_with("damaged-")
            || !plan.new.iter().all(|name| is_here(name) && is_of_journal(name))
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some(plan))
    }

    /// Begins it: from now on no server uses the directory. The new files must be on disk.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub(crate) fn begin(&self, disk: &dyn Disk) -> io::Result<()> {
        let making = disk.subdirectory(MAKING)?;
        let file = making.create(UNFINISHED)?;
        let text = format!("{}\n{}\n\n{}", self.damaged, self.new.join("\n"), self.report);
        file.write_at(0, text.as_bytes())?;
        file.sync()?;
        making.sync_names()?;
        disk.subdirectory(&self.damaged)?;
        disk.sync_names()?;
        disk.rename(&format!("{MAKING}/{UNFINISHED}"), UNFINISHED)?;
        disk.sync_names()
    }

    /// Takes the steps that are left. O(f) for f files.
    ///
    /// # Errors
    ///
    /// As the disk says. Then it must be called again.
    pub(crate) fn finish(&self, disk: &dyn Disk) -> io::Result<()> {
        let (making, damaged) = (disk.subdirectory(MAKING)?, disk.subdirectory(&self.damaged)?);
        let sync = || {
            [&making, &damaged].into_iter().try_for_each(|directory| directory.sync_names())?;
            disk.sync_names()
        };
        for name in disk.list()?.iter().filter(|name| is_of_journal(name)) {
            if !self.new.contains(name) {
                disk.rename(name, &format!("{}/{name}", self.damaged))?;
            }
        }
        sync()?;
        for name in making.list()?.iter().filter(|name| self.new.contains(name)) {
            disk.rename(&format!("{MAKING}/{name}"), name)?;
        }
        sync()?;
        // The report outlives the plan.
        disk.rename(UNFINISHED, &format!("{}/{REPORT}", self.damaged))?;
        sync()?;
        // An empty directory is in nobody's way.
        let _ = disk.remove_subdirectory(MAKING);
        Ok(())
    }
}

/// Whether a file with this name is one of the journal.
fn is_of_journal(name: &str) -> bool {
    [FileKind::Segment, FileKind::Snapshot].iter().any(|kind| kind.number(name).is_some())
        || [spares::UNFINISHED, snapshot::UNFINISHED].contains(&name)
}
