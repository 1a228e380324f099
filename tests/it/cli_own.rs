//! The commands that choose keys by their labels, say who holds them, and give their values, against the server.

use std::process::Output;

use serde_json::{Value, json};
use token_orchestrator::http::TokenHash;

use crate::access::File;
use crate::cli::error_line;
use crate::cli_import::import;
use crate::commands::Server;

/// A server whose pool `p` has these keys, a line each.
fn with_keys(lines: &str) -> Server {
    let server = Server::new(&[]);
    server.ask(&["pool", "set", "p", "--key-ttl", "never"]);
    let output = import(&server, &["--pool", "p"], lines.as_bytes());
    assert!(output.status.success(), "{output:?}");
    server
}

fn label(value: &str, label: &str) -> String {
    let (name, of) = label.split_once(':').unwrap();
    json!({"value": value, "labels": {name: of}}).to_string()
}

/// The columns of each key, without the headings.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_lease_prints_the_value_of_its_key() {
    let server = with_keys("{\"value\":\"sk 1\\n2\\u001b\\ud83d\\udd11\"}");
    let leased = server.ask(&["lease", "--pool", "p"]);
    assert!(leased.contains("  etag \"1\"  until 20"), "{leased}");
    // In one line, and nothing that a terminal obeys.
    assert!(leased.ends_with("Z  value sk 1\\u000a2\\u001b🔑"), "{leased}");
    let id = leased.split(' ').next().unwrap();
    server.ask(&["release", "--pool", "p", id]);
    let lease = server.json(&["lease", "--pool", "p"]);
    assert_eq!((&lease["keyId"], &lease["value"]), (&id.into(), &"sk 1\n2\u{1b}🔑".into()));
    server.ask(&["release", "--pool", "p", id]);
    // With the generated ones, which have none.
    server.ask(&["create", "--pool", "p", "--count", "2"]);
    let leased = server.ask(&["lease", "--pool", "p", "--count", "3"]);
    let with_value = leased.lines().filter(|line| line.contains("  value ")).collect::<Vec<_>>();
    assert_eq!((leased.lines().count(), with_value.len()), (3, 1), "{leased}");
    assert!(with_value[0].starts_with(id), "{leased}");
}

#[test]
fn a_lease_chooses_by_label_and_says_who_holds_it() {
    let lines = [label("sk-1", "plan:pro"), label("sk-2", "plan:a&b=50% é"), "sk-3".to_owned()];
    let server = with_keys(&lines.join("\n"));
    let lease = |arguments: &[&str]| server.ask(&[&["lease", "--pool", "p"], arguments].concat());
    assert!(lease(&["--label", "plan:pro", "--holder", "worker-7"]).ends_with("value sk-1"));
    // What would mean something else in a query.
    let odd = ["--label", "plan:a&b=50% é", "--holder", "w&lease=1%20+#"];
    assert!(lease(&odd).ends_with("value sk-2"));
    let line = server.refusal(&["lease", "--pool", "p", "--label", "plan:pro"]);
    assert!(line.starts_with("error: no key with the label plan:pro is free. Check "), "{line}");
    let listed = server.ask(&["list", "--pool", "p"]);
    assert!(listed.starts_with("id ") && listed.lines().next().unwrap().ends_with("  labels"));
    for end in ["worker-7        plan:pro", "w&lease=1%20+#  plan:a&b=50% é", "-               -"]
    {
        assert!(listed.lines().any(|line| line.ends_with(end)), "{end}: {listed}");
    }
    for (chosen, count) in [("plan:pro", 1), ("plan:free", 0), ("plan:a&b=50% é", 1)] {
        let some = server.ask(&["list", "--pool", "p", "--label", chosen]);
        assert_eq!(rows(&some).len(), count, "{chosen}: {some}");
    }
    let both =
        server.ask(&["list", "--pool", "p", "--label", "plan:pro", "--state", "free", "--json"]);
    assert_eq!(both, "");
    // Who holds a key is shown for it alone, too.
    let blocked = server.ask(&["list", "--pool", "p", "--label", "plan:pro"]);
    let id = rows(&blocked)[0][0].to_owned();
    assert!(server.ask(&["get", "--pool", "p", &id]).ends_with("\nholder  worker-7"));
    assert_eq!(server.json(&["get", "--pool", "p", &id])["leaseHolder"], "worker-7");
    for wrong in [
        &["lease", "--label", "plan"][..],
        &["list", "--label", ":pro"],
        &["import", "-", "--label", "plan:"],
        &["run", "--label", "", "--", "true"],
        &["lease", "--holder", "two words"],
        &["run", "--holder", "", "--", "true"],
        &["take-back", "--holder", "é"],
        &["take-back"],
    ] {
        let output = server.command(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        let named = wrong[wrong.iter().position(|word| word.starts_with("--")).unwrap_or(0)];
        let named = if named == "take-back" { "--holder" } else { named };
        assert!(error_line(&output).contains(named), "{wrong:?}");
    }
}

#[test]
fn all_that_a_holder_has_is_taken_back() {
    let server = with_keys("sk-1\nsk-2\nsk-3\nsk-4");
    let ask = |arguments: &[&str]| server.ask(&[arguments, &["--pool", "p"]].concat());
    ask(&["lease", "--count", "2", "--holder", "worker-7"]);
    ask(&["lease", "--holder", "worker-8"]);
    ask(&["lease"]);
    assert_eq!(server.ask(&["take-back", "--holder", "worker-7"]), "0 released");
    assert_eq!(ask(&["take-back", "--holder", "worker-7"]), "2 released");
    assert_eq!(ask(&["take-back", "--holder", "worker-7"]), "0 released");
    assert_eq!(rows(&ask(&["list", "--state", "free"])).len(), 2);
    let taken = server.json(&["take-back", "--pool", "p", "--holder", "worker-8"]);
    assert_eq!(taken, json!({"released": 1}));
    assert_eq!(rows(&ask(&["list", "--state", "blocked"])).len(), 1);
}

#[test]
fn run_gives_its_command_the_value_in_the_variable_that_it_is_told() {
    let lines = [label("sk-1", "plan:pro"), label("sk-2\n$x '", "plan:free")];
    let server = with_keys(&lines.join("\n"));
    let run = |options: &[&str], script: &str| {
        let run = [&["run", "--pool", "p"], options, &["--", "sh", "-c", script]].concat();
        server.command(&run).env("TOKEN_ORCHESTRATOR_POOL", "q").output().unwrap()
    };
    let program = env!("CARGO_BIN_EXE_token-orchestrator");
    for (plan, value) in [("plan:pro", "sk-1"), ("plan:free", "sk-2\n$x '")] {
        let script = format!(
            "printf '%s|%s|' \"$API_KEY\" \"$TOKEN_ORCHESTRATOR_KEY\"; {program} list --json --state blocked"
        );
        let options = ["--value-env", "API_KEY", "--label", plan, "--holder", "worker-7"];
        let output = run(&options, &script);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let (printed, _) = text(&output);
        let [printed, id, listed] = printed.splitn(3, '|').collect::<Vec<_>>().try_into().unwrap();
        let listed: Value = serde_json::from_str(listed).unwrap();
        assert_eq!((printed, &listed["keyId"]), (value, &id.into()));
        assert_eq!(listed["holder"], "worker-7");
    }
    // It is nowhere else, and not in the words of `run`.
    let output = run(&["--label", "plan:pro"], "env; cat /proc/$PPID/cmdline; exit 3");
    assert_eq!(output.status.code(), Some(3));
    let (printed, told) = text(&output);
    assert!(!printed.contains("sk-1") && told.is_empty(), "{printed} {told}");
    let output = run(&["--label", "plan:pro", "--value-env", "V"], "exec /no-such-command");
    let (printed, told) = text(&output);
    assert!(!printed.contains("sk-1") && !told.contains("sk-1"), "{printed} {told}");
    assert_eq!(rows(&server.ask(&["list", "--pool", "p", "--state", "free"])).len(), 2);
}

#[test]
fn without_a_value_that_a_variable_can_have_the_key_is_given_back() {
    let server = with_keys("{\"value\":\"s3cret\\u0000\",\"labels\":{\"kind\":\"nul\"}}");
    server.ask(&["create", "--pool", "p"]);
    let id = server.ask(&["list", "--pool", "p", "--label", "kind:nul", "--json"]);
    let id = serde_json::from_str::<Value>(&id).unwrap()["keyId"].as_str().unwrap().to_owned();
    let run = |label: &[&str]| {
        let run = ["run", "--pool", "p", "--value-env", "API_KEY"];
        let command = ["--", "sh", "-c", "echo started"];
        let output = server.command(&[&run[..], label, &command].concat()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{output:?}");
        assert_eq!(rows(&server.ask(&["list", "--pool", "p", "--state", "free"])).len(), 2);
        error_line(&output)
    };
    let line = run(&["--label", "kind:nul"]);
    assert!(line.contains("has a NUL character") && !line.contains("s3cret"), "{line}");
    server.ask(&["delete", "--pool", "p", &id]);
    server.ask(&["create", "--pool", "p"]);
    let line = run(&[]);
    assert!(line.starts_with("error: the leased key has no value for --value-env, so "), "{line}");
    let output = server.command(&["run", "--pool", "p", "--label", "a:b", "--", "true"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(error_line(&output).starts_with("error: no key with the label a:b is free. "));
    for name in ["", "1A", "A-B", "A=B", "Ä", "TOKEN_ORCHESTRATOR_KEY", "TOKEN_ORCHESTRATOR_POOL"]
    {
        let run = ["run", &format!("--value-env={name}"), "--", "true"];
        let output = server.command(&run).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(error_line(&output).contains("such as OPENAI_API_KEY"), "{name}");
    }
}

#[test]
fn roles_and_limits_of_tokens_are_told() {
    let file = File::new("cli-own", &[]);
    let line = |name: &str, end: &str| {
        format!("{name} {end}\n").replace("SHA", &TokenHash::of(name.as_bytes()).to_string())
    };
    let lines = [line("admin", "admin SHA"), line("worker", "client SHA max-held=1")];
    file.write_lines(&lines.concat());
    let server = Server::new(&["--auth-tokens", file.path()]);
    let ask = |token: &str, arguments: &[&str]| {
        let mut command = server.command(arguments);
        text(&command.env("TOKEN_ORCHESTRATOR_TOKEN", token).output().unwrap())
    };
    ask("admin", &["create", "--count", "3"]);
    // The name of the token is that of the holder.
    let (leased, _) = ask("worker", &["lease"]);
    let id = leased.split(' ').next().unwrap();
    assert!(ask("worker", &["get", id]).0.contains("\nholder  worker"));
    let (_, told) = ask("worker", &["lease"]);
    assert!(told.starts_with("error: The token has as many leases as it may have. "), "{told}");
    for arguments in [&["take-back", "--holder", "worker"][..], &["import", file.path()]] {
        let (_, told) = ask("worker", arguments);
        assert!(told.contains(" Give it with --token-file FILE, or in "), "{arguments:?}: {told}");
    }
    assert_eq!(ask("admin", &["take-back", "--holder", "worker"]).0, "1 released\n");
    assert!(ask("worker", &["lease"]).0.contains("  etag "));
}
