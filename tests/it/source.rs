//! Rules about the source: who may import whom, and how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with those that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("error", &[]),
    ("config", &[]),
    ("pool", &[]),
    ("key", &["time", "error", "pool"]),
    ("engine", &["time", "error", "pool", "key"]),
    ("journal", &["time", "pool", "key", "engine"]),
    ("store", &["time", "error", "pool", "key", "engine", "journal"]),
    ("http", &["time", "error", "config", "pool", "key", "store"]),
    ("cli", &["time", "error", "pool", "key", "journal", "store", "http", "config"]),
];
/// Each room of `http` with those that it may name. Nobody names `ops` but what puts all together.
const ROOMS_MAY_USE: &[(&str, &[&str])] = &[
    ("route", &[]),
    ("wire", &[]),
    ("meter", &["route"]),
    ("audit", &["route"]),
    ("auth", &["route", "wire"]),
    ("api", &["route", "wire", "meter", "audit", "auth"]),
    ("hot", &["route", "wire", "meter", "audit", "auth", "api"]),
    ("net", &["wire", "api", "hot"]),
    ("ops", &["route", "wire", "meter", "audit", "auth", "api", "net"]),
    ("docs", &["route", "wire", "auth", "api"]),
    ("router", &["route", "wire", "meter", "audit", "auth", "api", "net", "ops", "docs"]),
    ("serve", &["wire", "audit", "auth", "api", "hot", "net", "ops", "router"]),
];
const LINES_MAX: usize = 400;

/// The files in Rust below a folder of the project.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension() == Some("rs".as_ref()) {
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
    modules(path).into_iter().next().unwrap_or_else(|| "lib".to_owned())
}

/// The path of the module that a file is, as `["http", "wire"]` for `http/wire/mod.rs`.
fn modules(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let names = inside.with_extension("");
    let names = names.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| !["mod", "lib"].contains(&name.as_str())).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads what follows `begin` in a path or in the tree of a `use`, adds every path that it stands for to
/// `found`, and answers with the rest of the text.
fn read_tree<'a>(begin: &[String], text: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            rest = read_tree(begin, rest, found);
            // What follows a name up to the next one, as in `a as b`.
            rest = &rest[rest.find([',', '}']).expect("a list has an end")..];
        }
    }
    let word: String = text.chars().take_while(|c| is_word(*c)).collect();
    let rest = &text[word.len().max(usize::from(text.starts_with('*')))..];
    let mut path = begin.to_vec();
    match word.as_str() {
        "super" => drop(path.pop()),
        "crate" => path.clear(),
        "self" | "" => {}
        _ => path.push(word),
    }
    match rest.strip_prefix("::") {
        // Not the arguments of a type, as in `Vec::<u8>`.
        Some(rest) if !rest.starts_with('<') => read_tree(&path, rest, found),
        _ => {
            found.push(path);
            rest
        }
    }
}

/// The paths that the text of a module names, from the root of the crate: those that begin with `crate`,
/// `super` or `self`, wherever they stand.
fn named(module: &[String], text: &str) -> Vec<Vec<String>> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    // Tests that stand in a file are a module of it.
    let (own, tests) = code.split_once("\nmod tests {").unwrap_or((&code, ""));
    let of_tests = [module, &["tests".to_owned()]].concat();
    let mut found = Vec::new();
    for (module, code) in [(module, own), (&of_tests[..], tests)] {
        for (at, _) in code.match_indices("::") {
            let begin = code[..at].rfind(|c| !is_word(c)).map_or(0, |before| before + 1);
            let before = &code[..begin];
            let is_root = ["crate", "super", "self"].contains(&&code[begin..at]);
            // Neither the middle of a path nor the place where an item is to be seen.
            if is_root && !before.ends_with(':') && !before.ends_with("pub(in ") {
                read_tree(module, &code[begin..], &mut found);
            }
        }
    }
    found
}

/// Each file, as a module, with the files that it imports.
///
/// A file imports what it names, and every module on the way there that it is not itself within: who names
/// `crate::http::wire::Problem` imports `http/wire/mod.rs`, unless it is part of `wire`. Who names
/// something that its parent defines imports its parent. A parent that declares a child does not import it
/// by that; one that names something of the child does.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files: BTreeMap<_, _> =
        sources("src").into_iter().map(|(path, text)| (modules(&path), text)).collect();
    let is_file = |path: &&[String]| !path.is_empty() && files.contains_key(*path);
    let of = |(module, text): (&Vec<String>, &String)| {
        let mut found = BTreeSet::new();
        for path in named(module, text) {
            let way: Vec<_> =
                (1..=path.len()).map(|length| &path[..length]).filter(is_file).collect();
            let within = way.iter().filter(|on_way| module.starts_with(on_way)).count();
            // Its own parents are on the way to all that it names beside itself.
            let skipped = if within == way.len() { within.saturating_sub(1) } else { within };
            found.extend(way[skipped..].iter().map(|path| path.to_vec()));
        }
        found.remove(module);
        (module.clone(), found)
    };
    files.iter().filter(|(module, _)| **module != ["main"]).map(of).collect()
}

/// Asserts that a part of the source names no other part but those that a table allows.
fn assert_allowed(module: &[String], part: &str, other: &str, table: &[(&str, &[&str])]) {
    let row = table.iter().find(|(name, _)| *name == part);
    let (_, allowed) = row.unwrap_or_else(|| panic!("{part} is new: say here whom it may name"));
    let is_allowed = part == other || allowed.contains(&other);
    assert!(is_allowed, "{} names {other}", module.join("::"));
}

#[test]
fn each_module_names_only_those_below_it() {
    for (module, imported) in imports().iter().filter(|(module, _)| !module.is_empty()) {
        for other in imported {
            assert_allowed(module, &module[0], &other[0], MAY_USE);
        }
    }
}

#[test]
fn each_room_of_http_names_only_those_below_it() {
    let imports = imports();
    let within = imports.iter().filter(|(module, _)| module.len() > 1 && module[0] == "http");
    let mut rooms = BTreeSet::new();
    for (module, imported) in within {
        rooms.insert(module[1].as_str());
        for other in imported.iter().filter(|other| other[0] == "http") {
            let room = other.get(1).map_or("http itself", String::as_str);
            assert_allowed(module, &module[1], room, ROOMS_MAY_USE);
        }
    }
    assert!(ROOMS_MAY_USE.iter().all(|(room, _)| rooms.contains(room)), "there are {rooms:?}");
}

/// A circle of imports, if there is one: its first file comes again as its last one.
fn circle(imports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<Vec<String>>> {
    // Whoever imports nothing that is left is in no circle.
    let mut left: BTreeSet<_> = imports.keys().collect();
    loop {
        let is_free = |file: &Vec<String>| imports[file].iter().all(|other| !left.contains(other));
        let free: Vec<_> = left.iter().copied().filter(|file| is_free(file)).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|file| !free.contains(file));
    }
    let mut way = vec![(*left.first()?).clone()];
    loop {
        let next = imports[&way[way.len() - 1]].iter().find(|other| left.contains(other));
        let next = next.expect("each one that is left imports another").clone();
        let begin = way.iter().position(|file| *file == next);
        way.push(next);
        if let Some(begin) = begin {
            return Some(way.split_off(begin));
        }
    }
}

/// No file imports one that imports it in turn, directly or by way of others, within a folder or not; see
/// [`imports`] for what counts. So what a parent and its children share stands in a file below them.
#[test]
fn there_are_no_circles() {
    let imports = imports();
    assert_eq!(circle(&imports), None);
}

#[test]
fn circles_are_found() {
    let imports = |of: &[(&str, &[&str])]| {
        let path = |name: &&str| vec![(*name).to_owned()];
        let row = |(file, imported): &(&str, &[&str])| {
            (path(file), imported.iter().map(path).collect::<BTreeSet<_>>())
        };
        of.iter().map(row).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(circle(&imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    let of_three = [
        ("a", &["live"][..]),
        ("alarms", &["status"]),
        ("end", &[]),
        ("live", &["alarms", "end"]),
        ("status", &["live"]),
    ];
    let found = circle(&imports(&of_three)).unwrap().concat();
    assert_eq!(found, ["live", "alarms", "status", "live"]);
}

#[test]
fn only_http_names_axum_and_json_stays_at_the_edges() {
    for (path, text) in sources("src") {
        let (is_http, is_cli) = (module(&path) == "http", module(&path) == "cli");
        for (library, is_allowed) in [
            ("axum::", is_http),
            ("hyper", is_http || is_cli),
            ("serde::", is_http || is_cli),
            ("serde_json::", is_http || is_cli),
            ("rustls::", is_http || is_cli),
        ] {
            assert!(is_allowed || !text.contains(library), "{} names {library}", path.display());
        }
    }
}

/// Nothing else writes a record: see `src/engine/transition.rs`.
#[test]
fn one_place_changes_records() {
    let files = sources("src").into_iter().filter(|(path, _)| module(path) == "engine");
    let writers = files.filter(|(_, text)| text.contains(".record_mut()"));
    let names: Vec<_> = writers.map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["transition.rs"]);
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
    for (path, text) in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_reader_of_names_reads_them() {
    let text = "use crate::{engine, key};\n// crate::no\nlet x = crate::time::now();\n\
        use super::b::{self, c::{D, E as F}, g::*};\npub(in crate::http) use self::h::I;\n\
        super::super::J; crate::k::L::<u8>::new()\n\
        #[cfg(test)]\nmod tests {\n use super::*;\n use super::super::m::N;\n}";
    let paths: Vec<_> =
        named(&["http".to_owned(), "a".to_owned()], text).iter().map(|p| p.join(" ")).collect();
    assert_eq!(
        paths,
        [
            "engine",
            "key",
            "time now",
            "http b",
            "http b c D",
            "http b c E",
            "http b g",
            "http a h I",
            "J",
            "k L",
            "http a",
            "http m N",
        ]
    );
}
