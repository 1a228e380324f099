//! Copies of a data directory that a server uses.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::{Folder, id, kill, stop};
use crate::cli::{binary, error_line, request};

fn copy(from: &Folder, to: &Path) -> Output {
    binary().args(["data", "copy", from.path()]).arg(to).output().unwrap()
}

fn copied(from: &Folder, to: &Folder) -> String {
    let output = copy(from, &to.0);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a directory has, but for when that was last touched.
fn contents(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// What clients have done.
#[derive(Default)]
struct Done {
    kept: Mutex<Vec<String>>,
    deleted: Mutex<Vec<String>>,
    /// So many keys there may be by now.
    keys_max: AtomicUsize,
    is_over: AtomicBool,
}

/// Lets the clients end, however the test does.
struct Ends<'a>(&'a Done);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

impl Done {
    fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// Creates keys, leases some, and deletes some.
    fn work(&self, address: &str, deletes: bool) {
        while !self.is_over.load(SeqCst) {
            if self.count() >= self.keys_max.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let created = id(&request(address, "POST", "/keys"));
            if deletes {
                let path = format!("/keys/{created}");
                assert!(request(address, "DELETE", &path).starts_with("HTTP/1.1 2"));
                self.deleted.lock().unwrap().push(created);
            } else {
                self.kept.lock().unwrap().push(created);
                request(address, "GET", "/keys");
            }
        }
    }

    /// Waits until there are so many more keys, and lets there be more than that.
    fn wait_for_more(&self, more: usize) {
        let wanted = self.count() + more;
        self.keys_max.store(wanted + 5 * more, SeqCst);
        let end = Instant::now() + Duration::from_mins(1);
        while self.count() < wanted {
            assert!(Instant::now() < end, "there are {} keys, not {wanted}", self.count());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Each start begins a segment.
#[test]
fn a_copy_has_all_that_was_answered_before_it_began() {
    let (folder, to) = (Folder::new("copied"), Folder::new("copy"));
    let done = Done::default();
    for options in [&[][..], &["--durability", "everysec"], &[]] {
        let (server, address) = folder.serve(options);
        done.is_over.store(false, SeqCst);
        thread::scope(|scope| {
            let _ends = Ends(&done);
            for n in 0..3 {
                let (done, address) = (&done, &address);
                scope.spawn(move || done.work(address, n == 0));
            }
            for _ in 0..3 {
                done.wait_for_more(20);
                let kept = done.kept.lock().unwrap().clone();
                let deleted = done.deleted.lock().unwrap().clone();
                let said = copied(&folder, &to);
                assert!(said.contains("journal     up to frame "), "{said}");
                let checked = to.check(&[]);
                let text = String::from_utf8(checked.stdout).unwrap();
                assert!(text.ends_with("The directory is whole.\n"), "{text}");
                let (of_copy, address) = to.serve(&[]);
                let status = |id: &String| {
                    let answer = request(&address, "GET", &format!("/keys/{id}"));
                    answer[9..12].to_owned()
                };
                assert!(kept.iter().rev().take(100).all(|id| status(id) == "200"));
                assert!(deleted.iter().rev().take(50).all(|id| status(id) == "404"));
                kill(of_copy);
                fs::remove_dir_all(&to.0).unwrap();
            }
        });
        kill(server);
    }
    assert!(folder.segments().len() > 3, "{:?}", folder.segments());
}

#[test]
fn a_copy_changes_nothing_and_needs_no_key() {
    let (folder, to) = (Folder::new("copied-sealed"), Folder::new("copy-sealed"));
    let key = std::env::temp_dir().join(format!("data-copy-key-{}", std::process::id()));
    fs::write(&key, "0f".repeat(32)).unwrap();
    let option = ["--data-key-file", key.to_str().unwrap()];
    let (server, address) = folder.serve(&option);
    let created = id(&request(&address, "POST", "/keys"));
    let said = copied(&folder, &to);
    assert!(said.starts_with("copied      ") && said.contains(" bytes in 1 file\n"), "{said}");
    stop(server);
    for file in fs::read_dir(&to.0).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&to.0).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(error_line(&to.check(&[])).contains("the directory is encrypted"));
    let (server, address) = to.serve(&option);
    assert!(request(&address, "GET", &format!("/keys/{created}")).contains(" 200 OK"));
    kill(server);
    // One that no server uses can be copied as well, also over one that is empty.
    fs::remove_dir_all(&to.0).unwrap();
    fs::create_dir(&to.0).unwrap();
    let before = contents(&folder);
    copied(&folder, &to);
    assert!(contents(&folder) == before, "a copy has changed {}", folder.path());
    assert!(to.check(&option).status.success());
    fs::remove_file(key).unwrap();
}

#[test]
fn no_copy_of_damage_is_made() {
    let (folder, to) = (Folder::new("copied-damage"), Folder::new("copy-damage"));
    let (server, address) = folder.serve(&[]);
    for _ in 0..3 {
        request(&address, "POST", "/keys");
    }
    stop(server);
    let segment = &folder.segments()[0];
    let whole = fs::read(segment).unwrap();
    let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
    // In the payload of the first frame with a key.
    let place = 4096 + 48;
    file.write_all_at(&[!whole[place + 60]], place as u64 + 60).unwrap();
    let output = copy(&folder, &to.0);
    assert_eq!(output.status.code(), Some(1));
    let said = error_line(&output);
    let wanted = format!("{}: segment-000000000001 is damaged at byte {place}", folder.path());
    assert!(said.contains(&wanted), "{said}");
    assert!(!to.0.exists(), "what could not be copied is there");
    // Nor of what a repair has not finished: a copy would look whole.
    file.write_all_at(&whole[place + 60..=place + 60], place as u64 + 60).unwrap();
    fs::write(folder.0.join("repair-unfinished"), "").unwrap();
    let said = error_line(&copy(&folder, &to.0));
    assert!(said.contains("a repair of the directory was interrupted"), "{said}");
    assert!(!to.0.exists(), "what could not be copied is there");
}

#[test]
fn a_copy_takes_the_place_of_nothing() {
    let (folder, to) = (Folder::new("copied-nothing"), Folder::new("copy-nothing"));
    assert!(error_line(&copy(&folder, &to.0)).contains("is no directory"));
    fs::create_dir(&folder.0).unwrap();
    assert!(error_line(&copy(&folder, &to.0)).contains("has no data of a server"));
    assert!(!to.0.exists());
    let (server, _) = folder.serve(&[]);
    fs::create_dir(&to.0).unwrap();
    fs::write(to.0.join("mine"), "mine").unwrap();
    let output = copy(&folder, &to.0);
    assert_eq!(output.status.code(), Some(1));
    let said = error_line(&output);
    assert!(said.contains(&format!("{}: it is not empty", to.path())), "{said}");
    assert_eq!(contents(&to).len(), 1);
    kill(server);
}
