//! The commands about pools, and the pool of each other command, against the server.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use token_orchestrator::http::TokenHash;

use crate::access::File;
use crate::cli::error_line;
use crate::commands::Server;

const ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a8";
const OTHER_ID: &str = "936da01f-9abd-4d9d-80c7-02af85c822a9";

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn a_pool_is_set_shown_listed_and_deleted() {
    let server = Server::new(&[]);
    assert_eq!(server.ask(&["pool", "set", "openai", "--key-ttl", "never"]), "created");
    assert_eq!(server.ask(&["pool", "set", "openai", "--max-keys", "5"]), "changed");
    assert_eq!(server.ask(&["pool", "set", "openai"]), "unchanged");
    assert_eq!(server.ask(&["pool", "set", "openai", "--max-keys", "5"]), "unchanged");
    // What is not named is as it was.
    let settings = server.json(&["pool", "show", "openai"])["settings"].clone();
    assert_eq!((&settings["keyTtl"], &settings["maxKeys"]), (&"never".into(), &5.into()));
    server.ask(&["create", "--pool", "openai", "--count", "2"]);
    server.ask(&["lease", "--pool", "openai"]);
    let shown = server.ask(&["pool", "show", "openai"]);
    for line in [
        "settings",
        "--key-ttl never",
        "--lease-ttl 1m",
        "--max-keys 5",
        "keys 2",
        "free 1",
        "leased 1",
        "since the start of the server",
    ] {
        let wanted: Vec<_> = line.split(' ').collect();
        assert!(words(&shown).contains(&wanted), "{line}: {shown}");
    }
    let pools = server.ask(&["pools"]);
    assert_eq!(
        words(&pools),
        [
            ["pool", "keys", "free", "blocked", "cooling", "waiting"],
            ["default", "0", "0", "0", "0", "0"],
            ["openai", "2", "1", "1", "0", "0"],
        ]
    );
    // As the server has it, one in a line.
    let pools = server.ask(&["pools", "--json"]);
    let pools: Vec<Value> = pools.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pools[1], server.json(&["pool", "show", "openai"]));
    assert_eq!((pools.len(), &pools[0]["pool"]), (2, &"default".into()));
    let set = server.json(&["pool", "set", "openai", "--reset", "--max-keys", "7"]);
    assert_eq!((&set["pool"], &set["isNew"]), (&"openai".into(), &false.into()));
    let settings = &set["settings"];
    assert_eq!((&settings["keyTtl"], &settings["maxKeys"]), (&"5m".into(), &7.into()));
    assert_eq!(server.json(&["pool", "set", "a"])["isNew"], true);
    assert_eq!(server.ask(&["pool", "delete", "a"]), "deleted");
    assert_eq!(server.ask(&["pool", "delete", "openai", "--with-keys"]), "deleted");
    assert_eq!(server.ask(&["pools"]).lines().count(), 2);
}

#[test]
fn each_setting_has_an_option() {
    let server = Server::new(&[]);
    let options = [
        ("--key-ttl", "1h"),
        ("--lease-ttl", "30s"),
        ("--max-lease", "2m"),
        ("--max-cooldown", "3m"),
        ("--max-wait", "4m"),
        ("--lapse-cooldown", "5s"),
        ("--max-keys", "6"),
    ];
    for (at, (option, value)) in options.iter().enumerate() {
        let what = server.ask(&["pool", "set", "a", option, value]);
        assert_eq!(what, if at == 0 { "created" } else { "changed" }, "{option}");
    }
    let shown = server.ask(&["pool", "show", "a"]);
    assert_eq!(words(&shown)[1..8], options.map(|(option, value)| [option, value].to_vec()));
    // None of them is one of the server, whose variables have the same names.
    let mut command = server.command(&["pool", "set", "b"]);
    let output = command.env("TOKEN_ORCHESTRATOR_KEY_TTL", "soon").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for (option, value) in [
        ("--key-ttl", "soon"),
        ("--lease-ttl", "never"),
        ("--max-lease", "0s"),
        ("--max-cooldown", "31d"),
        ("--max-wait", "1"),
        ("--lapse-cooldown", "1us"),
        ("--max-keys", "0"),
    ] {
        let output = server.command(&["pool", "set", "b", option, value]).output().unwrap();
        let line = error_line(&output);
        assert_eq!(output.status.code(), Some(2), "{option}: {line}");
        assert!(line.contains(option) && line.contains(": must be a "), "{option}: {line}");
    }
}

#[test]
fn refusals_about_pools_name_what_the_user_can_type() {
    let server = Server::new(&["--max-pools", "2", "--max-keys", "100"]);
    server.ask(&["pool", "set", "p"]);
    server.ask(&["create", "--pool", "p"]);
    for (arguments, told) in [
        (
            &["pool", "show", "q"][..],
            "error: no such pool: q. `pools` lists all, and `pool set q` creates it.",
        ),
        (&["pool", "delete", "q", "--with-keys"], "error: no such pool: q. "),
        (&["pool", "delete", "p"], "error: the pool p has keys, so nothing was done: "),
        (&["pool", "delete", "p"], "with its keys by --with-keys."),
        (&["pool", "delete", "default"], "error: The default pool cannot be deleted. "),
        (&["pool", "set", "q"], "error: the server has as many pools as its operator allows: "),
        (&["pool", "set", "p", "--max-keys", "101"], "--max-keys must be a number from 1 to 100"),
        (
            &["pool", "set", "p", "--lease-ttl", "2m"],
            "--max-lease must not be shorter than --lease-ttl: ",
        ),
    ] {
        let line = server.refusal(arguments);
        assert!(line.contains(told), "{arguments:?}: {line}");
    }
    let line = server.refusal(&["pool", "delete", "p", "--json"]);
    let problem: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(problem["type"], "/problems/pool-not-empty");
    let longest = "x".repeat(64);
    for arguments in [
        &["pool", "set", "P"][..],
        &["pool", "show", ""],
        &["pool", "delete", "a/b"],
        &["stats", "--pool", &longest],
        &["run", "--pool", "-x", "--", "true"],
        &["run", "--pool=-x", "--", "true"],
    ] {
        let output = server.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        error_line(&output);
    }
}

/// Each command about keys with what it says of a key that is not there, or `None` if it needs none.
const OF_KEYS: &[(&[&str], &str)] = &[
    (&["create"], ""),
    (&["lease"], "no key is free"),
    (&["get", ID], "no such key"),
    (&["renew", ID], "no such key"),
    (&["release", ID], "no such key"),
    (&["release", ID, OTHER_ID], "no such keys"),
    (&["take-back", "--holder", "worker-7"], ""),
    (&["keep-alive", ID], "no such key"),
    (&["keep-alive", ID, OTHER_ID], "no such keys"),
    (&["delete", ID], "no such key"),
    (&["stats"], ""),
    (&["list"], ""),
];

#[test]
fn every_command_about_keys_takes_a_pool() {
    let server = Server::new(&[]);
    let told = |arguments: &[&str], by_variable: bool, pool: &str| {
        let mut command = server.command(arguments);
        if by_variable {
            command.env("TOKEN_ORCHESTRATOR_POOL", pool);
        } else {
            command.args(["--pool", pool]);
        }
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), told.is_empty(), "{arguments:?}: {told}");
        told
    };
    for by_variable in [false, true] {
        for (arguments, _) in OF_KEYS {
            let line = told(arguments, by_variable, "openai");
            assert!(line.starts_with("error: no such pool: openai. "), "{arguments:?}: {line}");
        }
    }
    server.ask(&["pool", "set", "openai"]);
    for (arguments, says) in OF_KEYS.iter().rev() {
        let line = told(arguments, false, "openai");
        assert!(line.contains(says) && !line.contains("no such pool"), "{arguments:?}: {line}");
    }
    // The only one that succeeded in creating a key.
    assert_eq!(server.json(&["stats", "--pool", "openai"])["keys"], 1);
    // An option comes before a variable, and an empty variable is none.
    for (variable, options, keys) in [
        ("none", &["--pool", "openai"][..], 1),
        ("openai", &["--pool", "default"], 0),
        ("", &[], 0),
    ] {
        let mut command = server.command(&[&["stats", "--json"], options].concat());
        let output = command.env("TOKEN_ORCHESTRATOR_POOL", variable).output().unwrap();
        let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(stats["keys"], keys, "{variable:?} {options:?}");
    }
}

#[test]
fn the_cycle_of_a_lease_stays_in_its_pool() {
    let server = Server::new(&[]);
    server.ask(&["pool", "set", "p", "--key-ttl", "never"]);
    let ask = |arguments: &[&str]| server.ask(&[arguments, &["--pool", "p"]].concat());
    let id = &ask(&["create"]);
    assert!(ask(&["lease"]).starts_with(&format!("{id}  etag \"1\"  until 20")));
    assert!(ask(&["renew", id, "--etag", "1"]).starts_with("leased until 20"));
    let shown = ask(&["get", id]);
    assert!(shown.starts_with("blocked since 20"), "{shown}");
    assert!(shown.contains("\nexpires never\n"), "{shown}");
    assert_eq!(ask(&["keep-alive", id]), "alive until it is deleted");
    assert_eq!(ask(&["release", id, "--etag", "1"]), "released");
    let other = &ask(&["create"]);
    assert_eq!(ask(&["keep-alive", id, other]), "2 kept alive");
    assert_eq!(ask(&["release", id, other]), "2 released");
    assert!(server.refusal(&["get", id]).contains("no such key"));
    assert_eq!(ask(&["delete", id]), "deleted");
    assert!(ask(&["stats"]).starts_with("keys "));
    assert_eq!(server.json(&["stats"])["totals"]["created"], 0);
}

/// What `run` starts goes on with the same pool. The keys of this one live until they are deleted.
#[test]
fn run_leases_from_its_pool_and_names_it() {
    let server = Server::new(&[]);
    server.ask(&["pool", "set", "p", "--key-ttl", "never"]);
    let id = server.ask(&["create", "--pool", "p"]);
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    let script = format!(
        "echo $TOKEN_ORCHESTRATOR_POOL; {program} get $TOKEN_ORCHESTRATOR_KEY && echo {id}"
    );
    let run = ["run", "--pool", "p", "--", "sh", "-c", &script];
    let output = server.command(&run).env("TOKEN_ORCHESTRATOR_POOL", "q").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("p\nblocked since 20"), "{printed}");
    assert!(printed.ends_with(&format!("{id}\n")), "{printed}");
    assert_eq!(server.json(&["stats", "--pool", "p"])["totals"]["released"], 1);
    server.ask(&["create"]);
    let script = "echo ${TOKEN_ORCHESTRATOR_POOL-none}";
    assert_eq!(server.ask(&["run", "--", "sh", "-c", script]), "none");
    let output = server.command(&["run", "--pool", "q", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(error_line(&output).starts_with("error: no such pool: q. "), "{output:?}");
}

#[test]
fn a_command_ends_when_its_pool_is_deleted() {
    let server = Server::new(&[]);
    server.ask(&["pool", "set", "p"]);
    server.ask(&["create", "--pool", "p"]);
    let run =
        ["run", "--pool", "p", "--lease", "3s", "--", "sh", "-c", "echo ready; exec sleep 600"];
    let mut command = server.command(&run);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    server.ask(&["pool", "delete", "p", "--with-keys"]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    // It is not tried again and again.
    let line = error_line(&output);
    assert!(line.starts_with("error: the lease is lost: no such pool: p. "), "{line}");
}

#[test]
fn a_token_for_some_pools_is_told_how_to_name_them() {
    let file = File::new("cli-pools", &[]);
    let line = |name: &str, end: &str| {
        format!("{name} {end}\n").replace("SHA", &TokenHash::of(name.as_bytes()).to_string())
    };
    let lines = [
        line("all", "admin SHA"),
        line("own", "admin SHA openai"),
        line("worker", "client SHA openai"),
    ];
    file.write_lines(&lines.concat());
    let server = Server::new(&["--auth-tokens", file.path()]);
    let told = |token: &str, arguments: &[&str]| {
        let output =
            server.command(arguments).env("TOKEN_ORCHESTRATOR_TOKEN", token).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), told.is_empty(), "{arguments:?}: {told}");
        told
    };
    for (token, arguments, says) in [
        ("all", &["pool", "set", "openai"][..], ""),
        ("all", &["pool", "set", "other"], ""),
        ("all", &["pools"], ""),
        ("own", &["pool", "set", "openai", "--max-keys", "9"], ""),
        ("own", &["pool", "show", "openai"], ""),
        ("own", &["create", "--pool", "openai"], ""),
        ("own", &["list", "--pool", "openai"], ""),
        ("worker", &["pool", "show", "openai"], ""),
        ("worker", &["run", "--pool", "openai", "--", "true"], ""),
        (
            "worker",
            &["list", "--pool", "openai"],
            "needs a token with the role admin. Give it with --token-file",
        ),
        ("worker", &["pool", "delete", "openai"], "needs a token with the role admin."),
        ("worker", &["lease"], "is not for the pool default. "),
        ("worker", &["lease"], ", or name another pool with --pool NAME."),
        ("worker", &["lease", "--pool", "other"], "is not for the pool other. "),
        ("own", &["pool", "show", "other"], "TOKEN_ORCHESTRATOR_TOKEN."),
        ("own", &["pool", "set", "none"], "is not for the pool none. "),
        ("own", &["pools"], "needs a token that is for all pools. Give it with --token-file"),
    ] {
        let line = told(token, arguments);
        assert!(line.contains(says) && line.is_empty() == says.is_empty(), "{arguments:?}: {line}");
        assert!(line.lines().count() <= 1, "{line}");
    }
}
