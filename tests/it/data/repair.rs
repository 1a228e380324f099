//! `data repair`: a directory that a server refuses serves again.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use super::{Folder, id, kill};
use crate::cli::{binary, error_line, request};

impl Folder {
    fn repair(&self, options: &[&str]) -> Output {
        binary().args(["data", "repair", self.path()]).args(options).output().unwrap()
    }

    /// The directory with the damaged files.
    fn damaged(&self) -> std::path::PathBuf {
        let mut files = fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path());
        let is_it = |path: &std::path::PathBuf| path.to_str().unwrap().contains("/damaged-");
        files.find(is_it).expect("damaged files were moved")
    }
}

/// Where frames with a payload of `needle` begin: the record of a key has its id.
fn find(segment: &Path, id: &str) -> u64 {
    let digits = id.replace('-', "");
    let raw: Vec<u8> =
        (0..16).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap()).collect();
    let bytes = fs::read(segment).unwrap();
    bytes.windows(16).position(|window| window == raw).expect("the key is there") as u64
}

fn flip(segment: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn is_there(address: &str, id: &str) -> bool {
    request(address, "GET", &format!("/keys/{id}")).contains(" 200 OK")
}

fn etag(answer: &str) -> u64 {
    let line = answer.lines().find_map(|line| line.strip_prefix("etag: "));
    line.unwrap_or_else(|| panic!("{answer}")).trim_matches('"').parse().unwrap()
}

#[test]
fn keys_from_before_the_damage_are_kept_and_fences_go_up() {
    let folder = Folder::new("repair");
    let (server, address) = folder.serve(&[]);
    let create = || id(&request(&address, "POST", "/keys"));
    let early = create();
    let leased = request(&address, "GET", "/keys");
    assert_eq!((id(&leased), etag(&leased)), (early.clone(), 1));
    let free = create();
    let [hit, late] = [create(), create()];
    kill(server);
    let whole = text(&folder.repair(&[]));
    assert_eq!(whole, "The directory is whole: there is nothing to repair.\n");
    let segment = &folder.segments()[0];
    flip(segment, find(segment, &hit));
    let refusal = folder.refusal(&[]);
    assert!(refusal.contains("Restore the directory from a backup, or keep what is whole"));
    assert!(refusal.contains("`token-orchestrator data repair`"), "{refusal}");
    let damaged = fs::read(segment).unwrap();
    let report = text(&folder.repair(&[]));
    for part in [
        "damaged     segment-000000000001, bytes ",
        "lost        1 frame that cannot be read\n",
        "lost        1 frame behind that, which can be read, up to 20",
        "kept        1 pool, 2 keys, of which 1 are leased\n",
        "are in damaged-20",
        "leases that were given, renewed or released since then are not known",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    let moved = folder.damaged();
    assert_eq!(fs::metadata(&moved).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(fs::read(moved.join("segment-000000000001")).unwrap() == damaged);
    // Behind the names of the files that were moved and made.
    let kept = fs::read_to_string(moved.join("report.txt")).unwrap();
    assert!(kept.ends_with(report.trim_end()), "{kept}");
    assert!(folder.check(&[]).status.success());
    let (server, address) = folder.serve(&[]);
    assert_eq!(
        [&early, &free, &hit, &late].map(|id| is_there(&address, id)),
        [true, true, false, false]
    );
    // Its holder goes on with the fence that it has.
    let tag = "If-Match: \"1\"";
    let renewed = with_header(&address, "PUT", &format!("/keys/{early}/lease"), tag);
    assert!(renewed.starts_with("HTTP/1.1 200"), "{renewed}");
    let leased = request(&address, "GET", "/keys");
    assert_eq!(id(&leased), free);
    assert!(etag(&leased) > 1 << 20, "{leased}");
    let released = with_header(&address, "PUT", &format!("/keys/{early}"), tag);
    assert!(released.starts_with("HTTP/1.1 200"), "{released}");
    assert!(etag(&request(&address, "GET", "/keys")) > 1 << 20);
    kill(server);
    // The server leaves the damaged files alone.
    kill(folder.serve(&[]).0);
    assert!(fs::read(moved.join("segment-000000000001")).unwrap() == damaged);
}

fn with_header(address: &str, method: &str, path: &str, field: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{field}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One line each, status 1, and nothing changes.
#[test]
fn what_cannot_be_repaired_is_left_as_it_is() {
    let folder = Folder::new("no-repair");
    let refused = |options: &[&str]| {
        let output = folder.repair(options);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        error_line(&output)
    };
    assert!(refused(&[]).contains("is no directory: name the one that --data-dir"));
    fs::create_dir(&folder.0).unwrap();
    assert!(refused(&[]).contains("it has no data of a server"));
    let (server, _) = folder.serve(&[]);
    assert!(refused(&[]).contains("another process uses the directory"));
    kill(server);
    let key = std::env::temp_dir().join(format!("repair-key-{}", std::process::id()));
    fs::write(&key, "0f".repeat(32)).unwrap();
    let line = refused(&["--data-key-file", key.to_str().unwrap()]);
    assert!(line.contains("not encrypted: leave out --data-key-file"), "{line}");
    fs::remove_file(key).unwrap();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for segment in folder.segments() {
        fs::write(segment, "damaged").unwrap();
    }
    let before = names();
    assert!(refused(&[]).contains("no record in it can be read, so nothing can be kept"));
    assert_eq!(names(), before);
}
