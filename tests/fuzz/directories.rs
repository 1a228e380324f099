//! Data directories with damage: the oracle is that there is an answer, an error that names a file or what a server would
//! start with, and that a copy has the same.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use token_orchestrator::journal::{DataKey, OpenError, copy_directory};
use token_orchestrator::store::Checked;

use crate::damage::Damaged;
use crate::fuzz;

/// What a directory of a hundred kilobytes may take: far more than it does, and far less than a length of four bytes can say.
const MEMORY_MAX_KIB: u64 = 2 << 20;

/// A folder that ends with its test; in memory, where the system has such a one.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let in_memory = Path::new("/dev/shm");
        let parent = if in_memory.is_dir() { in_memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("fuzz-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The most memory that this process has asked for, used or not, in KiB.
fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn key(directory: &Damaged) -> Option<DataKey> {
    (directory.golden == "sealed").then(|| DataKey::new([0x0f; 32]))
}

#[test]
fn each_directory_is_refused_by_a_name_or_read() {
    let (folder, to) = (Folder::new("directory"), Folder::new("copy"));
    let [read, torn, records, others] = [const { Cell::new(0) }; 4];
    let count = |of: &Cell<u64>| of.set(of.get() + 1);
    let before = memory_kib();
    fuzz(6, Damaged::make, |directory| {
        directory.write(&folder.0);
        let checked = Checked::read(&folder.0, key(directory), Box::new(|_, _| {}));
        assert!(memory_kib() < before + MEMORY_MAX_KIB, "it takes {} KiB", memory_kib());
        let error = match checked {
            Ok(None) => panic!("nothing is found"),
            Ok(Some(checked)) => {
                count(if checked.torn.is_some() { &torn } else { &read });
                let _ = fs::remove_dir_all(&to.0);
                let copied = copy_directory(&folder.0, &to.0).unwrap().expect("it has something");
                assert_eq!(copied.last_frame, checked.last_frame);
                let again =
                    Checked::read(&to.0, key(directory), Box::new(|_, _| {})).unwrap().unwrap();
                assert_eq!(again, Checked { torn: None, ..checked });
                return;
            }
            Err(error) => error,
        };
        match &error {
            OpenError::Damaged { file, what, .. } => {
                assert!(file.starts_with("segment-") || file.starts_with("snapshot-"), "{error}");
                count(if what.starts_with("a record cannot be read") { &records } else { &others });
            }
            OpenError::NewerFormat { file, .. } | OpenError::WrongKey { file } => {
                assert!(file.starts_with("segment-") || file.starts_with("snapshot-"), "{error}");
            }
            OpenError::KeyMissing | OpenError::NotSealed => {}
            OpenError::Locked | OpenError::RepairUnfinished | OpenError::Io { .. } => {
                panic!("{error}")
            }
        }
    });
    println!(
        "{} read, {} torn, {} records, {} others",
        read.get(),
        torn.get(),
        records.get(),
        others.get()
    );
    for (of, min, what) in [
        (&read, 200, "were read"),
        (&torn, 20, "had a torn end"),
        (&records, 20, "had a record that cannot be read"),
        (&others, 500, "were damaged in another way"),
    ] {
        assert!(of.get() >= min, "only {} {what}", of.get());
    }
}
