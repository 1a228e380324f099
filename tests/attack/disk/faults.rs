//! The library that lets calls fail: it is compiled, and told what to do.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::folder::Folder;
use crate::server::program;

/// Errors as the system counts them.
pub(super) const EIO: i32 = 5;

/// A data directory whose disk fails when it is told to.
pub(super) struct Faults {
    /// Of the library, the rules and the log.
    folder: Folder,
    data: Folder,
    library: PathBuf,
}

/// A call that was made for a file of the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) file: String,
    /// 0 if it was done.
    pub(super) error: i32,
}

impl Faults {
    pub(super) fn new() -> Self {
        let (folder, data) = (Folder::new("faults"), Folder::new("disk"));
        let library = folder.file("faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attack/disk/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
        assert!(compiler.arg(&library).arg(source).status().expect("cc").success());
        Self { folder, data, library }
    }

    /// The program on this disk.
    pub(super) fn command(&self) -> Command {
        let mut command = program();
        command.env("LD_PRELOAD", &self.library);
        command.env("FAULTS", self.folder.path()).env("FAULTS_FOR", self.data.path());
        command
    }

    pub(super) fn data(&self) -> &str {
        self.data.path().to_str().unwrap()
    }

    /// The options of a server on this disk.
    pub(super) fn options<'a>(&'a self, durability: &'a str) -> [&'a str; 6] {
        ["--data-dir", self.data(), "--durability", durability, "--key-ttl", "1h"]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.data.has(name)
    }

    /// From now on the disk obeys these rules.
    pub(super) fn set(&self, rules: &str) {
        let next = self.folder.file("next");
        fs::write(&next, rules).unwrap();
        fs::rename(next, self.folder.file("rules")).unwrap();
    }

    /// The calls since the last time.
    pub(super) fn take_log(&self) -> Vec<Call> {
        let log = fs::read_to_string(self.folder.file("log")).unwrap();
        // It is written to at its end, wherever that is.
        fs::write(self.folder.file("log"), "").unwrap();
        let call = |line: &str| {
            let mut parts = line.split(' ').map(str::to_owned);
            let (name, file) = (parts.next().unwrap(), parts.next().unwrap());
            Call { name, file, error: parts.next().unwrap().parse().unwrap() }
        };
        log.lines().map(call).collect()
    }
}
