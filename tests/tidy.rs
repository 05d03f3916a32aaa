//! What keeps the house tidy, checked by machine: who may import whom, which words and calls stay out, how long a file
//! may be, and that the documents' links lead somewhere. Reads the sources, never writes. A rule is one line in a
//! table with its reason; every rule has a violating snippet in [`each_rule_finds_its_snippet`].

#[path = "tidy/lexer.rs"]
mod lexer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

// ---------------------------------------------------------------------------------------------------------- the tables

/// A crate that only these places may name.
struct OnlyIn {
    krate: &'static str,
    places: &'static [&'static str],
    why: &'static str,
}

const ONLY_IN: &[OnlyIn] = &[
    OnlyIn {
        krate: "chitchat",
        places: &["cluster/", "simulation/"],
        why: "gossip is a hint; only cluster decides what to make of it",
    },
    OnlyIn {
        krate: "openraft",
        places: &["raft-store/"],
        why: "what is above proposes and reads; how it is agreed on stays below",
    },
    OnlyIn { krate: "rocksdb", places: &["raft-store/"], why: "one floor owns the disk" },
    OnlyIn {
        krate: "actix_web_actors",
        places: &["src/connections/", "src/app.rs"],
        why: "it is deprecated upstream: the transport must be replaceable without touching the rest",
    },
    OnlyIn {
        krate: "rdkafka",
        places: &["src/backends/", "src/sources/", "bench/", "tests/gateway/"],
        why: "backends and sources hide what they are made of",
    },
    OnlyIn {
        krate: "hyper",
        places: &["otlp/"],
        why: "the way out over HTTP is egress; a collector is not a destination",
    },
];

/// Crates that a floor must not name: arrows only point down.
struct Never {
    place: &'static str,
    krates: &'static [&'static str],
    why: &'static str,
}

const NEVER: &[Never] = &[
    Never {
        place: "model/",
        krates: &["wsgateway", "wsgateway_config", "wsgateway_raft_store", "wsgateway_cluster", "tokio", "actix_web"],
        why: "the vocabulary: no IO, no runtime, and nothing of the gateway",
    },
    Never {
        place: "config/",
        krates: &["wsgateway", "wsgateway_raft_store", "wsgateway_cluster", "tokio", "actix_web"],
        why: "what a document means needs the model only; who stores it is the gateway's business",
    },
    Never {
        place: "cluster/",
        krates: &["wsgateway", "wsgateway_config", "wsgateway_model", "wsgateway_raft_store"],
        why: "cluster is the lowest floor",
    },
    Never {
        place: "raft-store/",
        krates: &["wsgateway", "wsgateway_config", "wsgateway_model"],
        why: "raft-store holds opaque documents and knows no gateway",
    },
    Never {
        place: "otlp/",
        krates: &[
            "wsgateway",
            "wsgateway_cluster",
            "wsgateway_config",
            "wsgateway_model",
            "wsgateway_raft_store",
            "actix_web",
        ],
        why: "how spans travel has nothing to do with what a gateway is",
    },
    Never {
        place: "chaos/",
        krates: &["wsgateway", "wsgateway_cluster", "wsgateway_config", "wsgateway_model", "wsgateway_raft_store"],
        why: "chaos drives the real binary from outside; shared code would share the bugs",
    },
    Never {
        place: "bench/",
        krates: &["wsgateway", "wsgateway_cluster", "wsgateway_config", "wsgateway_model", "wsgateway_raft_store"],
        why: "the load program measures any gateway, from outside",
    },
];

/// A room of the gateway (`src/<room>.rs` or `src/<room>/`) and the rooms that it may import.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
    why: &'static str,
}

const ANY: &str = "*";
const ROOMS: &[Room] = &[
    Room { name: "model", may_import: &[], why: "a crate of its own, at hand here" },
    Room { name: "close_code", may_import: &[], why: "a table of the model, at hand here" },
    Room { name: "error", may_import: &["model", "close_code"], why: "a table that every floor may read" },
    Room { name: "telemetry", may_import: &["model", "close_code", "error"], why: "every floor reports to it" },
    Room {
        name: "settings",
        may_import: &["model", "close_code", "error", "telemetry"],
        why: "read once, before any service exists",
    },
    Room {
        name: "egress",
        may_import: &["model", "close_code", "error", "telemetry"],
        why: "the one way out: services that call others share its rules and its trust",
    },
    Room {
        name: "listener",
        may_import: &["model", "close_code", "error", "telemetry", "settings"],
        why: "the one way in: sockets, TLS and limits of an address, before anything of HTTP",
    },
    Room { name: "connections", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "authentication", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "backends", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "config", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "access", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "nodes", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "observe", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "push", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "sources", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "throttle", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "wills", may_import: SERVICE, why: "services do not import each other; app wires them" },
    Room { name: "inbound", may_import: FRONT_DOOR, why: "front doors never import each other" },
    Room { name: "admin", may_import: ADMIN, why: "front doors never import each other" },
    Room {
        name: "explain",
        may_import: EXPLAIN,
        why: "says what inbound would do, by inbound's own pure functions: a copy of them could disagree",
    },
    Room { name: "app", may_import: &[ANY], why: "the only room that knows every room" },
    Room { name: "cli", may_import: &[ANY], why: "commands start whatever they need" },
    Room { name: "main", may_import: &[ANY], why: "starts the program" },
    Room { name: "lib", may_import: &[ANY], why: "lists the rooms" },
];
const SERVICE: &[&str] = &["model", "settings", "close_code", "error", "telemetry", "egress", "listener"];
const EXPLAIN: &[&str] = &["model", "close_code", "config", "backends", "inbound"];
const ADMIN: &[&str] = &[
    "model",
    "settings",
    "close_code",
    "error",
    "telemetry",
    "connections",
    "backends",
    "config",
    "nodes",
    "observe",
    "push",
    "access",
    "explain",
];
const FRONT_DOOR: &[&str] = &[
    "model",
    "settings",
    "close_code",
    "error",
    "telemetry",
    "listener",
    "authentication",
    "connections",
    "backends",
    "config",
    "push",
    "wills",
];

/// A word that must not occur: in the code proper, or anywhere in the file.
struct Word {
    word: &'static str,
    anywhere: bool,
    why: &'static str,
}

// Spelled in two halves, so that this file does not find itself.
const WORDS: &[Word] = &[
    Word { word: concat!("TO", "DO"), anywhere: true, why: "do it, or open an issue" },
    Word { word: concat!("FIX", "ME"), anywhere: true, why: "fix it, or open an issue" },
    Word { word: concat!("to", "do!"), anywhere: false, why: "it panics" },
    Word { word: concat!("un", "implemented!"), anywhere: false, why: "it panics" },
    Word { word: concat!("db", "g!"), anywhere: false, why: "a debugging aid" },
    Word {
        word: concat!("un", "bounded_channel"),
        anywhere: false,
        why: "every queue has a bound and an answer for full",
    },
];

/// Lines of one `.rs` file; the aim is below 500, this is where it stops.
const LINES_MAX: usize = 600;
/// Files with a limit of their own.
const LINES_MAX_OF: &[(&str, usize)] = &[("src/main.rs", 150)];

/// Paths that exist on one machine only, wherever they stand at the start of a path.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/tmp/", "wt-")];

/// The folders with Rust sources.
const SOURCE_FOLDERS: &[&str] = &[
    "src/",
    "model/",
    "config/",
    "cluster/",
    "raft-store/",
    "otlp/",
    "chaos/",
    "bench/",
    "tests/",
    "fuzz/",
    "clients/",
];

// ---------------------------------------------------------------------------------------------------------- the checks

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    rule: &'static str,
    at: String,
    what: String,
}

/// Everything that is wrong with one Rust file. `path` is relative to the repository's root.
fn check_source(path: &str, source: &str) -> Vec<Violation> {
    let blanked = lexer::blank_comments_and_literals(source);
    let module = module_path(path);
    let named = lexer::named_paths(&blanked, &module);
    let mut found = Vec::new();
    check_opening(path, source, &mut found);
    check_length(path, source, &mut found);
    check_words(path, source, &blanked, &mut found);
    check_crates(path, &named, &mut found);
    check_rooms(path, &named, &mut found);
    found
}

fn check_opening(path: &str, source: &str, found: &mut Vec<Violation>) {
    let first = source.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        let what = "a module opens with //!: what lives here, what may call it, what it may import".into();
        found.push(Violation { rule: "opening", at: format!("{path}:1"), what });
    }
}

fn check_length(path: &str, source: &str, found: &mut Vec<Violation>) {
    let max = LINES_MAX_OF.iter().find(|(file, _)| *file == path).map_or(LINES_MAX, |(_, max)| *max);
    let lines = source.lines().count();
    if lines > max {
        found.push(Violation {
            rule: "length",
            at: path.into(),
            what: format!("{lines} lines; at most {max}: split by idea"),
        });
    }
}

fn check_words(path: &str, source: &str, blanked: &str, found: &mut Vec<Violation>) {
    for Word { word, anywhere, why } in WORDS {
        let text = if *anywhere { source } else { blanked };
        for (number, line) in text.lines().enumerate() {
            if contains_word(line, word) {
                found.push(Violation {
                    rule: "word",
                    at: format!("{path}:{}", number + 1),
                    what: format!("{word}: {why}"),
                });
            }
        }
    }
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_part)
            && !line[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

fn check_crates(path: &str, named: &[lexer::NamedPath], found: &mut Vec<Violation>) {
    for name in named {
        let Some(krate) = name.segments.first() else { continue };
        let at = format!("{path}:{}", name.line);
        for OnlyIn { krate: only, places, why } in ONLY_IN {
            if krate == only && !places.iter().any(|place| path.starts_with(place)) {
                found.push(Violation {
                    rule: "only-in",
                    at: at.clone(),
                    what: format!("{only} is for {places:?} only: {why}"),
                });
            }
        }
        for Never { place, krates, why } in NEVER {
            if path.starts_with(place) && krates.contains(&krate.as_str()) {
                found.push(Violation {
                    rule: "floor",
                    at: at.clone(),
                    what: format!("{place} must not import {krate}: {why}"),
                });
            }
        }
    }
}

fn check_rooms(path: &str, named: &[lexer::NamedPath], found: &mut Vec<Violation>) {
    let Some(own) = room_of(path) else { return };
    let Some(room) = ROOMS.iter().find(|room| room.name == own) else {
        let what = format!("{own} is not in the table of rooms: say there which floor it is on");
        found.push(Violation { rule: "room", at: path.into(), what });
        return;
    };
    for name in named {
        let [root, other, ..] = name.segments.as_slice() else { continue };
        // Names at the top of the crate that are no room (a re-export, a macro) are lib.rs's business.
        let is_room = ROOMS.iter().any(|room| room.name == other);
        if root != "crate" && root != "wsgateway" || !is_room || other == own {
            continue;
        }
        if !room.may_import.contains(&ANY) && !room.may_import.contains(&other.as_str()) {
            let what = format!("{own} must not import {other}: {}", room.why);
            found.push(Violation { rule: "room", at: format!("{path}:{}", name.line), what });
        }
    }
}

/// `src/inbound/decode.rs` → `inbound`; `None` outside the gateway.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split('/').next()?.trim_end_matches(".rs"))
}

/// `src/inbound/decode.rs` → crate::inbound::decode; good enough for every crate of the workspace.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    let mut module = vec!["crate".to_string()];
    module.extend(inside.trim_end_matches(".rs").split('/').map(String::from));
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Manifests say what can be imported at all: a floor's must not list what is above it.
fn check_manifest(path: &str, manifest: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for Never { place, krates, why } in NEVER {
        if path != format!("{place}Cargo.toml") {
            continue;
        }
        for (number, line) in manifest.lines().enumerate() {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default().replace('-', "_");
            if krates.contains(&name.as_str()) {
                let what = format!("{place} must not depend on {name}: {why}");
                found.push(Violation { rule: "manifest", at: format!("{path}:{}", number + 1), what });
            }
        }
    }
    found
}

/// Any tracked text file.
fn check_text(path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for machine_path in MACHINE_PATHS {
            let starts_a_path = line.match_indices(machine_path).any(|(at, _)| {
                !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-/}~*)>".contains(c))
            });
            if starts_a_path {
                let what = format!("{machine_path} exists on one machine only");
                found.push(Violation { rule: "machine-path", at: format!("{path}:{}", number + 1), what });
            }
        }
    }
    found
}

/// Relative links of a document; `exists` tells whether a path relative to the root is there.
fn check_links(path: &str, document: &str, exists: impl Fn(&Path) -> bool) -> Vec<Violation> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !exists(&folder.join(target)) {
                let what = format!("the link to {target} leads nowhere");
                found.push(Violation { rule: "link", at: format!("{path}:{}", number + 1), what });
            }
        }
    }
    found
}

// ------------------------------------------------------------------------------------------------------ the real files

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What git tracks or would track. Sources that were not added yet count, so that a check before a commit means something.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    names.lines().filter(|name| root().join(name).is_file()).map(String::from).collect()
}

fn assert_none(found: Vec<Violation>) {
    let lines: Vec<String> = found.iter().map(|v| format!("{} [{}] {}", v.at, v.rule, v.what)).collect();
    assert!(found.is_empty(), "{} untidy places:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn sources_keep_the_rules() {
    let mut seen = 0;
    let mut found = Vec::new();
    for path in files() {
        if path.ends_with(".rs") && SOURCE_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            let source = std::fs::read_to_string(root().join(&path)).expect("a source file is UTF-8");
            found.extend(check_source(&path, &source));
            seen += 1;
        } else if path.ends_with("Cargo.toml") {
            let manifest = std::fs::read_to_string(root().join(&path)).expect("a manifest is UTF-8");
            found.extend(check_manifest(&path, &manifest));
        }
    }
    println!("{seen} Rust files checked");
    assert!(seen > 10, "only {seen} source files were found: the test looks in the wrong place");
    assert_none(found);
}

#[test]
fn texts_name_no_machine_and_their_links_lead_somewhere() {
    let mut found = Vec::new();
    for path in files() {
        // What is not UTF-8 is a picture or the like.
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        found.extend(check_text(&path, &text));
        if path.ends_with(".md") {
            found.extend(check_links(&path, &text, |target| root().join(target).exists()));
        }
    }
    assert_none(found);
}

// ------------------------------------------------------------------------------------- the checks themselves are checked

#[test]
fn each_rule_finds_its_snippet() {
    let ok = "//! A module.\n";
    let long = "//! Long.\n".to_string() + &"fn f() {}\n".repeat(LINES_MAX);
    let note = format!("{ok}// {}: later\n", WORDS[0].word);
    let call = format!("{ok}fn f() {{ {}() }}\n", WORDS[2].word);
    let queue = format!("{ok}fn f() {{ tokio::sync::mpsc::{}() }}\n", WORDS[5].word);
    let snippets: &[(&str, &str, &str)] = &[
        ("opening", "model/src/event.rs", "use std::fmt;\n"),
        ("length", "cluster/src/lib.rs", &long),
        ("length", "src/main.rs", &long[..2_000]),
        ("word", "src/app.rs", &note),
        ("word", "src/app.rs", &call),
        ("word", "src/app.rs", &queue),
        ("only-in", "src/app.rs", "//! A.\nuse chitchat::NodeId;\n"),
        ("only-in", "src/config/store.rs", "//! A.\nfn f() -> openraft::LogId { x }\n"),
        ("only-in", "cluster/src/lib.rs", "//! A.\nuse {std::fmt, rocksdb::DB};\n"),
        ("only-in", "src/inbound/upgrade.rs", "//! A.\nuse actix_web_actors::ws;\n"),
        ("only-in", "src/inbound/dispatch.rs", "//! A.\nuse rdkafka::producer;\n"),
        ("floor", "cluster/src/lib.rs", "//! A.\nuse wsgateway_raft_store::types;\n"),
        ("floor", "raft-store/src/lib.rs", "//! A.\nuse wsgateway::model;\n"),
        ("floor", "otlp/src/span.rs", "//! A.\nuse wsgateway_model::event;\n"),
        ("only-in", "src/egress/mod.rs", "//! A.\nuse hyper::Uri;\n"),
        ("floor", "chaos/src/main.rs", "//! A.\nfn f() { wsgateway_cluster::identity::x() }\n"),
        ("floor", "bench/src/main.rs", "//! A.\nuse wsgateway::model;\n"),
        ("room", "src/settings/mod.rs", "//! A.\nuse crate::config::registry::Registry;\n"),
        ("room", "src/push/deliver.rs", "//! A.\nuse crate::{model::event, connections::hub};\n"),
        ("room", "src/backends/http.rs", "//! A.\nfn f() { super::super::push::g() }\n"),
        ("room", "src/config/mod.rs", "//! A.\nuse super::backends;\n"),
        ("room", "src/connections/hub.rs", "//! A.\nmod tests { use super::super::super::config::X; }\n"),
        ("room", "src/inbound/route.rs", "//! A.\nuse crate::admin::access;\n"),
        ("room", "src/admin/push_api.rs", "//! A.\nuse crate::inbound;\n"),
        ("room", "src/shed/mod.rs", "//! A room that nobody put in the table.\n"),
    ];
    let mut seen = BTreeSet::new();
    for (rule, path, source) in snippets {
        let rules: Vec<&str> = check_source(path, source).iter().map(|v| v.rule).collect();
        assert_eq!(rules, [*rule], "{path}: {}", &source[..source.len().min(100)]);
        seen.insert(*rule);
    }
    for rule in ["opening", "length", "word", "only-in", "floor", "room"] {
        assert!(seen.contains(rule), "no snippet shows that {rule} is found");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let allowed: &[(&str, &str)] = &[
        ("cluster/src/membership.rs", "//! A.\nuse chitchat::Chitchat;\n"),
        (
            "raft-store/src/log.rs",
            "//! A.\nuse openraft::RaftLogReader;\nuse rocksdb::DB;\nuse wsgateway_cluster::NodeId;\n",
        ),
        (
            "src/connections/session.rs",
            "#![allow(deprecated)]\n//! A.\nuse actix_web_actors::ws;\nuse crate::model::event;\n",
        ),
        (
            "src/inbound/decode.rs",
            "//! A.\nuse super::route;\nuse crate::backends::Backend;\n// crate::admin is not for us\n",
        ),
        ("src/app.rs", "//! A.\nuse crate::{admin, inbound};\n"),
        ("src/push/mod.rs", "//! A.\nconst S: &str = \"crate::config\";\n"),
        ("src/cli/todo_list.rs", "//! A.\nfn todo_list() {}\n"),
    ];
    for (path, source) in allowed {
        assert_eq!(check_source(path, source), [], "{path}");
    }
}

#[test]
fn manifests_texts_and_links_are_checked() {
    let rules = |found: Vec<Violation>| found.iter().map(|v| v.rule).collect::<Vec<_>>();
    assert_eq!(
        rules(check_manifest("chaos/Cargo.toml", "[dependencies]\nwsgateway-cluster.workspace = true\n")),
        ["manifest"]
    );
    assert_eq!(rules(check_manifest("raft-store/Cargo.toml", "wsgateway-cluster.workspace = true\n")), [] as [&str; 0]);
    let machine = MACHINE_PATHS[0];
    assert_eq!(rules(check_text("README.md", &format!("see `{machine}.cache`"))), ["machine-path"]);
    assert_eq!(rules(check_text("README.md", &format!("see https://example.com{machine}x"))), [] as [&str; 0]);
    let exists = |path: &Path| path == Path::new("docs/there.md");
    assert_eq!(
        rules(check_links("docs/a.md", "[x](there.md#part) [y](https://example.com/z)", exists)),
        [] as [&str; 0]
    );
    assert_eq!(rules(check_links("docs/a.md", "[x](gone.md)", exists)), ["link"]);
    assert_eq!(rules(check_links("docs/a.md", "```\n[x](gone.md)\n```", exists)), [] as [&str; 0]);
}
