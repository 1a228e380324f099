//! Directories that an earlier version has written are read as they were then. `tests/sim/golden.rs` writes them, and
//! says how.

use std::collections::HashMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use token_orchestrator::journal::{DataKey, Durability};
use token_orchestrator::key::{KeyInfo, State};
use token_orchestrator::pool::PoolId;
use token_orchestrator::store::{
    ClockState, DataDirectory, Leasing, Memory, Options, Store, StoreExt, Wanted, committed,
};
use token_orchestrator::time::{Clock, ManualClock, Timestamp};

use crate::cli::binary;

const KEY: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A copy of a golden directory, which ends with its test.
struct Copy(PathBuf);

impl Copy {
    fn of(name: &str) -> Self {
        let path = env::temp_dir().join(format!("golden-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        for file in fs::read_dir(golden().join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), path.join(file.file_name())).unwrap();
        }
        Self(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `data check` says of a directory.
fn check(directory: &Copy, key: Option<&str>) -> String {
    let mut command = binary();
    command.args(["data", "check"]).arg(&directory.0);
    let key_file = directory.0.with_extension("key");
    if let Some(key) = key {
        fs::write(&key_file, key).unwrap();
        command.arg("--data-key-file").arg(&key_file);
    }
    let output = command.output().unwrap();
    let _ = fs::remove_file(key_file);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let text = text.replace(directory.0.to_str().unwrap(), "DIR");
    format!("status {}\n{text}", output.status.code().unwrap())
}

fn time(at: Timestamp) -> String {
    at.unless_never().map_or("never".to_owned(), |at| at.as_ms().to_string())
}

fn describe(info: &KeyInfo) -> String {
    let state = match info.state {
        State::Free => "free".to_owned(),
        State::Leased(lease) => format!("leased {}-{}", time(lease.since), time(lease.until)),
        State::Cooling { since, until } => format!("cooling {}-{}", time(since), time(until)),
    };
    let mut text = format!(
        "created {} dies {} generation {} {state}",
        time(info.created_at),
        time(info.life_ends),
        info.generation
    );
    for label in info.labels() {
        let _ = write!(text, " {label:?}");
    }
    if let Some(holder) = info.holder() {
        let _ = write!(text, " held by {holder:?}");
    }
    text
}

/// The keys of a pool.
async fn list(store: &impl Store, pool: PoolId, text: &mut String) {
    let wanted = Wanted { cursor: None, limit: 1000, state: None, label: None };
    let mut keys = store.inventory(pool, wanted).await.unwrap().keys;
    keys.sort_by_key(|(id, _)| *id);
    for (id, info) in &keys {
        let _ = writeln!(text, "  {id} {}", describe(info));
    }
}

/// All that a store has that is opened with the directory at its own time.
async fn read(directory: &Copy, key: Option<&str>) -> String {
    let clock = ManualClock::default();
    let directory = DataDirectory {
        path: directory.0.clone(),
        durability: Durability::Commit,
        key: key.map(|key| DataKey::from_hex(key).unwrap()),
        restart_grace_ms: 0,
    };
    let failed = |error: &std::io::Error| panic!("the disk has failed: {error}");
    let (options, quotas) = (Options::default(), HashMap::new());
    let resumed = |state: Option<ClockState>| {
        clock.advance_ms(state.expect("it has something").seen.as_ms());
        clock.clone()
    };
    let progress = Box::new(|_, _| {});
    let opened = Memory::open(options, &directory, &quotas, resumed, progress, failed);
    let (store, durable) = opened.unwrap();
    let mut text = format!("at {}\n", time(clock.now()));
    let pools = store.list_pools(None, 100).await.unwrap();
    for listed in &pools {
        let settings = store.settings_of(listed.id).unwrap();
        let _ = writeln!(
            text,
            "{}: lives {:?}, leases {} up to {}, cool-downs up to {}, waits {}, after a lapse {}, {} keys",
            listed.name,
            settings.key_ttl_ms,
            settings.lease_ttl_ms,
            settings.lease_ms_max,
            settings.cooldown_ms_max,
            settings.wait_ms_max,
            settings.lapse_cooldown_ms,
            settings.keys_max
        );
        list(&store, listed.id, &mut text).await;
    }
    // All leases are over then, and so are cool-downs.
    clock.advance_ms(10 * 60 * 1000);
    for listed in &pools {
        let pool = store.pool(listed.id);
        let mut values = Vec::new();
        while let Ok(leased) = pool.lease(Leasing::default()).await {
            let value = leased.value.as_ref().map_or("none", |value| value.reveal());
            values
                .push(format!("  {} generation {} value {value}\n", leased.id, leased.generation));
        }
        values.sort();
        let _ = write!(text, "leases in {}\n{}", listed.name, values.concat());
    }
    committed(&store).await;
    durable.close();
    text
}

async fn compare(name: &str, key: Option<&str>, starts: bool) {
    let copy = Copy::of(name);
    let mut text = check(&copy, key);
    if starts {
        text += &read(&copy, key).await;
    }
    let path = golden().join(format!("{name}.txt"));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    assert!(text == golden, "{name} is read as\n{text}\nand not as\n{golden}");
}

#[tokio::test]
async fn a_directory_is_read_as_it_was_written() {
    compare("plain", None, true).await;
}

#[tokio::test]
async fn an_encrypted_directory_is_read_as_it_was_written() {
    compare("sealed", Some(KEY), true).await;
}

#[tokio::test]
async fn a_torn_end_is_read_as_one() {
    compare("torn", None, true).await;
}

#[tokio::test]
async fn damage_is_read_as_such() {
    compare("damaged", None, false).await;
}

/// Nothing is as large as what a server writes: these files are in the repository.
#[test]
fn golden_directories_are_small() {
    for name in ["plain", "sealed", "torn", "damaged"] {
        let files = fs::read_dir(golden().join(name)).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!((10_000..100_000).contains(&bytes), "{name} has {bytes} bytes");
    }
}
