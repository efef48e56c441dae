//! Rules of the source tree that the compiler does not know: who may import whom, and what must not be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each module may import of ours. Whatever is not listed here is not a module.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("telemetry", &["config", "domain"]),
    ("lifecycle", &[]),
    ("planted", &[]),
    ("store", &["planted", "domain", "telemetry"]),
    ("lock", &["domain"]),
    ("provider", &["domain", "telemetry"]),
    ("bus", &["domain", "telemetry"]),
    ("webhook", &["domain"]),
    ("members", &["store"]),
    ("sandbox", &["domain"]),
    ("app", &["store", "lock", "provider", "webhook", "planted", "domain", "telemetry"]),
    ("http", &["app", "store", "config", "domain", "telemetry"]),
    ("bench", &["app", "store", "config", "domain"]),
    ("worker", &["app", "store", "bus", "members", "planted", "config", "domain", "telemetry"]),
    (
        "cli",
        &[
            "http",
            "worker",
            "bench",
            "app",
            "store",
            "lock",
            "provider",
            "webhook",
            "bus",
            "members",
            "sandbox",
            "domain",
            "config",
            "telemetry",
            "lifecycle",
        ],
    ),
    ("main", &["cli"]),
];

/// Crates that belong to one layer, and the modules that may name them.
const CRATES: &[(&str, &[&str])] = &[
    ("sqlx", &["store", "bench"]),
    ("lapin", &["bus"]),
    ("zookeeper_client", &["lock", "members"]),
    ("reqwest", &["provider", "sandbox", "webhook", "cli", "telemetry"]),
    ("hmac", &["provider", "sandbox", "webhook"]),
    ("ipnet", &["webhook"]),
    ("axum", &["http", "sandbox"]),
    ("governor", &["http"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("httparse", &["http"]),
    ("tokio_rustls", &["http"]),
    ("clap", &["cli", "worker"]),
    ("anyhow", &["cli", "bench"]),
    ("metrics", &["app", "bus", "http", "lock", "provider", "store", "telemetry", "worker"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("metrics_process", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
];

/// The most lines that a file may have.
const LONGEST: usize = 400;

struct Source {
    /// Relative to the root of the repository.
    path: PathBuf,
    text: String,
    /// Without comments and literals.
    code: String,
}

impl Source {
    /// The module of the crate that the file belongs to.
    fn module(&self) -> &str {
        let part = self.path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
        part.strip_suffix(".rs").unwrap_or(part)
    }

    /// How many modules deep the file is: 0 for `lib.rs`.
    fn depth(&self) -> usize {
        let folders = self.path.components().count() - 2;
        let own = !matches!(self.path.file_name().unwrap().to_str(), Some("mod.rs" | "lib.rs" | "main.rs"));
        folders + usize::from(own)
    }

    /// The modules of the crate's root that the code names.
    fn imports(&self) -> BTreeSet<&str> {
        let up = format!("{}::", vec!["super"; self.depth()].join("::"));
        let mut roots = vec!["crate::", "holdfast::"];
        if self.depth() > 0 {
            roots.push(&up);
        }
        let modules: BTreeSet<&str> = MAY_IMPORT.iter().map(|(module, _)| *module).collect();
        let mut found = BTreeSet::new();
        for root in roots {
            for after in starts(&self.code, root) {
                found.extend(first_names(after).into_iter().filter(|name| modules.contains(name)));
            }
        }
        found.remove(self.module());
        found
    }
}

/// What follows each place where a path begins with `prefix`.
fn starts<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let begins = |at: usize| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':'))
    };
    let found = code.match_indices(prefix).filter(|(at, _)| begins(*at));
    found.map(|(at, _)| &code[at + prefix.len()..]).collect()
}

/// `a` of `a::b`, and `a` and `b` of `{a::c, b::{d, e}}`.
fn first_names(path: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let (mut names, mut depth, mut first) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => first = true,
            _ if first && !c.is_whitespace() => {
                names.push(&group[at..at + name(&group[at..])]);
                first = false;
            }
            _ => {}
        }
    }
    names
}

/// The code without comments, and without what stands in string literals.
fn strip(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
        } else if c == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |_| if rest.as_bytes()[1] == b'\\' { 4 } else { 3 })
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// How many `#` begin the raw string that stands here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_owned();
                sources.push(Source { code: strip(&text), path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 5, "{folder}");
    sources
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let may_import: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|source| source.module() != "lib") {
        let module = source.module();
        let Some(allowed) = may_import.get(module) else {
            violations.push(format!(
                "{}: {module} has no place in the order of the modules",
                source.path.display()
            ));
            continue;
        };
        for import in source.imports().into_iter().filter(|import| !allowed.contains(import)) {
            violations.push(format!("{}: {module} must not import {import}", source.path.display()));
        }
    }
    assert_none(&violations);
}

#[test]
fn the_order_of_the_modules_has_no_cycle() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    while below.len() < MAY_IMPORT.len() {
        let next: Vec<_> = MAY_IMPORT
            .iter()
            .filter(|(module, imports)| !below.contains(module) && imports.iter().all(|i| below.contains(i)))
            .collect();
        assert!(!next.is_empty(), "{below:?}");
        below.extend(next.iter().map(|(module, _)| module));
    }
}

#[test]
fn a_crate_is_named_only_in_its_layer() {
    let mut violations = Vec::new();
    for source in sources("src") {
        for (name, modules) in CRATES {
            let named = !starts(&source.code, &format!("{name}::")).is_empty();
            if named && !modules.contains(&source.module()) {
                violations.push(format!("{}: names {name}", source.path.display()));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn the_domain_does_no_input_or_output() {
    let mut violations = Vec::new();
    for source in sources("src").iter().filter(|source| source.module() == "domain") {
        for name in ["tokio", "futures_util", "rand", "tracing"] {
            if !starts(&source.code, &format!("{name}::")).is_empty() {
                violations.push(format!("{}: names {name}", source.path.display()));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn only_the_relay_publishes_and_only_dead_letters_are_sent_again() {
    let callers = |call: &str| -> Vec<_> {
        let calling = |source: &Source| source.module() != "bus" && source.code.contains(call);
        sources("src").into_iter().filter(calling).map(|source| source.path).collect()
    };
    assert_eq!(callers(".publish("), [Path::new("src/worker/outbox_relay/lane.rs")]);
    assert_eq!(callers(".redeliver("), [Path::new("src/worker/dead_letters.rs")]);
}

#[test]
fn only_the_wiring_knows_which_backends_there_are() {
    let mut violations = Vec::new();
    for source in sources("src") {
        for name in
            ["RabbitMqBus::new", "ZooKeeperLock::connect", "StripeProvider::new", "NoLock)", "Directory::new"]
        {
            let own = matches!(source.module(), "bus" | "lock" | "provider" | "members");
            if !own && source.code.contains(name) && source.path != Path::new("src/cli/wiring.rs") {
                violations.push(format!("{}: {name}", source.path.display()));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn of_the_commands_only_the_wiring_names_locks_and_bus() {
    let mut violations = Vec::new();
    for source in sources("src/cli").iter().filter(|source| source.path != Path::new("src/cli/wiring.rs")) {
        for import in source.imports().into_iter().filter(|import| ["bus", "lock"].contains(import)) {
            violations.push(format!("{}: names {import}", source.path.display()));
        }
    }
    assert_none(&violations);
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let mut violations = Vec::new();
    for folder in ["src", "tests", "devstack"] {
        for source in sources(folder) {
            let (path, lines) = (source.path.display(), source.text.lines().count());
            if !source.text.starts_with("//! ") {
                violations.push(format!("{path}: does not begin with a module comment"));
            }
            if lines > LONGEST {
                violations.push(format!("{path}: {lines} lines"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let mut violations = Vec::new();
    for folder in ["src", "tests", "devstack"] {
        for source in sources(folder) {
            for forbidden in ["todo!", "unimplemented!", "dbg!", "#[ignore", "unsafe ", "FIXME"] {
                if source.code.contains(forbidden) {
                    violations.push(format!("{}: {forbidden}", source.path.display()));
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn the_rules_see_what_they_are_to_see() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into(), code: strip(text) };
    let imports = |path: &str, text: &str| -> Vec<String> {
        source(path, text).imports().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(
        imports("src/app/x.rs", "use crate::{\n    bus::{EventBus, config},\n    http,\n};"),
        ["bus", "http"]
    );
    assert_eq!(imports("src/app/x.rs", "fn f() { crate::worker::run() } // crate::bus"), ["worker"]);
    assert_eq!(
        imports("src/app/mod.rs", "use super::http::serve; use super::{bus, store::Store};"),
        ["bus", "http", "store"]
    );
    assert_eq!(imports("src/app/x.rs", "use super::http; use super::super::{http as h};"), ["http"]);
    assert_eq!(
        imports("src/app/x.rs", r##"let s = "crate::bus \" crate::bus"; let r = r#"crate::"bus"#;"##),
        Vec::<String>::new()
    );
    assert_eq!(strip("a // b\n'\"' \"c\\\"d\" e"), "a  \n    e");
}
