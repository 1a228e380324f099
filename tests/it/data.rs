//! The data directory of the binary: what survives, and what is refused.

mod copy;
mod repair;
mod shown;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::cli::{Started, binary, error_line, output_soon, request, signal, start};

/// A directory that ends with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("data-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn serve(&self, options: &[&str]) -> (Started, String) {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--data-dir", self.path()]).args(options);
        let (child, address, _) = start(&mut command);
        (child, address)
    }

    /// What a server says that does not start.
    fn refusal(&self, options: &[&str]) -> String {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--data-dir", self.path()]).args(options);
        let output = output_soon(&mut command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        error_line(&output)
    }

    fn check(&self, options: &[&str]) -> Output {
        binary().args(["data", "check", self.path()]).args(options).output().unwrap()
    }

    /// The files of the journal, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path());
        let is_segment = |path: &PathBuf| path.to_str().unwrap().contains("/segment-");
        let mut segments: Vec<_> = files.filter(is_segment).collect();
        segments.sort();
        segments
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kill(mut child: Started) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn stop(mut child: Started) {
    signal(&child, "TERM");
    assert!(child.wait().unwrap().success());
}

/// The id in an answer.
fn id(answer: &str) -> String {
    let (_, body) = answer.split_once("{\"keyId\":\"").unwrap_or_else(|| panic!("{answer}"));
    body[..36].to_owned()
}

/// An answer without its date.
fn undated(answer: &str) -> String {
    answer.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn keys_and_leases_survive_a_kill_and_a_stop() {
    let folder = Folder::new("survive");
    for options in [&[][..], &["--durability", "everysec"]] {
        let (server, address) = folder.serve(options);
        for _ in 0..3 {
            assert!(request(&address, "POST", "/keys").starts_with("HTTP/1.1 201"));
        }
        let leased = id(&request(&address, "GET", "/keys"));
        let free = id(&request(&address, "GET", "/keys"));
        assert!(request(&address, "PUT", &format!("/keys/{free}")).starts_with("HTTP/1.1 200"));
        let deleted = id(&request(&address, "GET", "/keys"));
        request(&address, "DELETE", &format!("/keys/{deleted}"));
        let show = |address: &str| {
            [&leased, &free, &deleted]
                .map(|id| undated(&request(address, "GET", &format!("/keys/{id}"))))
        };
        let before = show(&address);
        assert!(
            before[0].contains("\"isBlocked\":true") && before[2].contains("404"),
            "{before:?}"
        );
        kill(server);
        let (server, address) = folder.serve(options);
        assert_eq!(show(&address), before);
        stop(server);
        let (server, address) = folder.serve(options);
        assert_eq!(show(&address), before);
        kill(server);
    }
    for file in fs::read_dir(&folder.0).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_has_one_server() {
    let folder = Folder::new("lock");
    let (server, _) = folder.serve(&[]);
    assert!(
        folder.refusal(&[]).contains("another process uses the directory: stop that server first")
    );
    let checked = folder.check(&[]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(error_line(&checked).contains("another process uses the directory"));
    kill(server);
    kill(folder.serve(&[]).0);
}

/// The first segment has a frame at its beginning, and one for each change.
#[test]
fn damage_is_named_and_a_torn_end_is_cut_off() {
    let folder = Folder::new("damage");
    let (server, address) = folder.serve(&[]);
    let ids = [(); 3].map(|()| id(&request(&address, "POST", "/keys")));
    kill(server);
    let checked = folder.check(&[]);
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("keys        3, of which 0 are leased\n"), "{text}");
    assert!(text.ends_with("The directory is whole.\n"), "{text}");
    let segment = &folder.segments()[0];
    let whole = fs::read(segment).unwrap();
    // Behind the head and the frame that begins the segment: the frames of the keys, each with one record.
    let [first, last] = [0, 2].map(|n: u64| 4096 + 48 + n * 88);
    let flip = |offset: u64| {
        let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
        let byte = whole[usize::try_from(offset).unwrap()];
        file.write_all_at(&[byte ^ 1], offset).unwrap();
    };
    flip(first + 60);
    for refusal in [folder.refusal(&[]), error_line(&folder.check(&[]))] {
        let place =
            format!("segment-000000000001 is damaged at byte {first}: a frame that was on disk");
        assert!(refusal.contains(&place), "{refusal}");
    }
    // The same at the end looks like a frame that was not written wholly: nobody was told of it.
    fs::write(segment, &whole).unwrap();
    flip(last + 60);
    let text = String::from_utf8(folder.check(&[]).stdout).unwrap();
    assert!(
        text.contains(&format!("The directory is whole up to byte {last} of segment-000000000001")),
        "{text}"
    );
    let (server, address) = folder.serve(&[]);
    let found = ids.map(|id| request(&address, "GET", &format!("/keys/{id}")).contains(" 200 OK"));
    assert_eq!(found, [true, true, false]);
    kill(server);
    // What was cut off is not taken for damage later.
    kill(folder.serve(&[]).0);
}

#[test]
fn a_directory_is_encrypted_with_a_key() {
    let folder = Folder::new("sealed");
    let key_file = |name: &str, content: &str| {
        let path = std::env::temp_dir().join(format!("data-{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    };
    let key = key_file("key", &format!("{}\n", "0f".repeat(32)));
    let other = key_file("other-key", &"0e".repeat(32));
    let bad = key_file("bad-key", "secret");
    let with = |path: &Path| ["--data-key-file".to_owned(), path.to_str().unwrap().to_owned()];
    let [key_option, other_option, bad_option] = [&key, &other, &bad].map(|path| with(path));
    let as_str = |options: &[String; 2]| options.clone().map(|option| option.leak() as &str);
    let (server, address) = folder.serve(&as_str(&key_option));
    let created = id(&request(&address, "POST", "/keys"));
    kill(server);
    let bytes = fs::read(&folder.segments()[0]).unwrap();
    let raw = created.replace('-', "");
    let raw: Vec<u8> =
        (0..16).map(|n| u8::from_str_radix(&raw[2 * n..2 * n + 2], 16).unwrap()).collect();
    assert!(!bytes.windows(16).any(|window| window == raw), "the key is there to read");
    assert!(
        folder
            .refusal(&[])
            .contains("the directory is encrypted: give its key with --data-key-file")
    );
    let refusal = folder.refusal(&as_str(&other_option));
    assert!(
        refusal.contains("encrypted with another key than that in --data-key-file"),
        "{refusal}"
    );
    let refusal = folder.refusal(&as_str(&bad_option));
    assert!(refusal.contains("64 hexadecimal digits, as `openssl rand -hex 32`"), "{refusal}");
    assert!(folder.check(&as_str(&key_option)).status.success());
    let (server, address) = folder.serve(&as_str(&key_option));
    assert!(request(&address, "GET", &format!("/keys/{created}")).contains(" 200 OK"));
    kill(server);
    for path in [key, other, bad] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn options_of_a_directory_need_one() {
    for (arguments, named) in [
        (["--durability", "everysec"], "--durability needs --data-dir DIR"),
        (["--restart-grace", "30s"], "--restart-grace needs --data-dir DIR"),
        (["--data-key-file", "key"], "--data-key-file needs --data-dir DIR"),
    ] {
        let output = binary().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(error_line(&output).contains(named), "{output:?}");
    }
    let folder = Folder::new("empty");
    fs::create_dir(&folder.0).unwrap();
    assert!(error_line(&folder.check(&[])).contains("has no data of a server"));
}

/// A key that died while no server was running can be kept alive, and one that had died before cannot.
#[test]
fn lives_go_on_for_the_grace_after_a_start() {
    let folder = Folder::new("grace");
    let (server, address) = folder.serve(&["--key-ttl", "1ms"]);
    let dead = id(&request(&address, "POST", "/keys"));
    kill(server);
    let (server, address) = folder.serve(&["--key-ttl", "1h", "--restart-grace", "1h"]);
    assert!(request(&address, "GET", &format!("/keys/{dead}")).contains(" 404 "));
    kill(server);
    // The grace is for lives that end after the last time that was shown for certain, two seconds ahead.
    let (server, address) = folder.serve(&["--key-ttl", "30s"]);
    let dying = id(&request(&address, "POST", "/keys"));
    kill(server);
    let (server, address) = folder.serve(&["--restart-grace", "2h"]);
    let shown = request(&address, "GET", &format!("/keys/{dying}"));
    let line = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    let expires = humantime::parse_rfc3339(&line("key-expires-at")).unwrap();
    let now = httpdate::parse_http_date(&line("date")).unwrap();
    assert!(expires.duration_since(now).unwrap().as_secs() > 7000, "{shown}");
    kill(server);
}
