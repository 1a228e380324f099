//! Rules about the source: who may import whom, and how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with those that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("error", &[]),
    ("config", &[]),
    ("key", &["time", "error"]),
    ("engine", &["time", "error", "key"]),
    ("store", &["time", "error", "key", "engine"]),
    ("http", &["time", "error", "config", "key", "store"]),
    ("cli", &["time", "error", "key", "store", "http", "config"]),
];
const LINES_MAX: usize = 400;

/// The files below a folder of the project.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    let files_min = if folder == "src" { 10 } else { 0 };
    assert!(found.len() > files_min, "the source was not found");
    found
}

/// The module at the top level that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The modules that a text names, as in `crate::engine::Pool` and `crate::{engine, key}`.
fn named(text: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => {
                list.split('}').next().unwrap().split(',').map(str::trim).map(word).collect()
            }
            None => vec![word(rest)],
        })
        .collect()
}

#[test]
fn each_module_names_only_those_below_it() {
    for (path, text) in sources("src") {
        let module = module(&path);
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is new: say here whom it may name"));
        for name in named(&text) {
            let is_allowed = name == module || allowed.contains(&name.as_str());
            assert!(is_allowed, "{} names crate::{name}", path.display());
        }
    }
}

#[test]
fn only_http_names_axum_and_json_stays_at_the_edges() {
    for (path, text) in sources("src") {
        let (is_http, is_cli) = (module(&path) == "http", module(&path) == "cli");
        for (library, is_allowed) in [
            ("axum::", is_http),
            ("hyper", is_http),
            ("serde::", is_http),
            ("serde_json::", is_http || is_cli),
            ("reqwest::", is_cli),
            ("rustls::", is_http || is_cli),
        ] {
            assert!(is_allowed || !text.contains(library), "{} names {library}", path.display());
        }
    }
}

#[test]
fn the_engine_is_pure() {
    for (path, text) in sources("src").into_iter().filter(|(path, _)| module(path) == "engine") {
        let text = text.split("#[cfg(test)]").next().unwrap();
        for impure in ["tokio", "std::io", "Instant", "SystemTime", "rand::rng()", "async "] {
            assert!(!text.contains(impure), "{} names {impure}", path.display());
        }
    }
}

#[test]
fn files_stay_short() {
    let files = ["src", "tests", "benches"].into_iter().flat_map(sources);
    for (path, text) in files.filter(|(path, _)| path.extension() == Some("rs".as_ref())) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_reader_of_names_reads_them() {
    let text = "use crate::{engine, key};\n// crate::no\nlet x = crate::time::now();";
    assert_eq!(named(text), ["engine", "key", "time"]);
}
