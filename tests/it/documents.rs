//! What README.md and ARCHITECTURE.md say of the API and of the source tree is complete, and is so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use reqwest::Method;
use serde_json::Value;

use crate::support::{api::send, app::TestApp};

/// A row of a table: the text of its cells.
type Row = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tables of the section of this heading, without their heads.
fn tables(document: &str, heading: &str) -> Vec<Vec<Row>> {
    let section = document.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let mut tables: Vec<Vec<Row>> = Vec::new();
    let mut in_table = false;
    for line in section.lines() {
        let begins = line.starts_with('|') && !in_table;
        in_table = line.starts_with('|');
        if begins {
            tables.push(Vec::new());
        }
        if in_table {
            // `\|` is no end of a cell.
            let line = line.replace("\\|", "\u{1}");
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|"));
            tables.last_mut().unwrap().push(cells.collect());
        }
    }
    tables.into_iter().map(|table| table.into_iter().skip(2).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn names<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

async fn served(test: &TestApp, path: &str) -> Value {
    send(test.api.bare(Method::GET, path)).await.expect(200)
}

/// Of each operation of the document: its query parameters, and the headers that it takes beside those that all take.
fn operations(document: &Value) -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let of = |place: &str| {
                let parameters = parameters.iter().filter(|parameter| parameter["in"] == place);
                let names = parameters.map(|parameter| parameter["name"].as_str().unwrap());
                names.filter(|name| *name != "Idempotency-Key").map(str::to_owned).collect()
            };
            operations.insert(format!("{} {path}", method.to_uppercase()), [of("query"), of("header")]);
        }
    }
    operations
}

/// The operations that the first cell of a row names: `GET /a`, `/a/{id}`, where a path without a method has the one before.
fn named(cell: &str) -> Vec<String> {
    let mut method = "";
    let name = |text| {
        let (own, path) = str::split_once(text, ' ').unwrap_or((method, text));
        method = own;
        format!("{method} {path}")
    };
    quoted(cell).map(name).collect()
}

/// The query parameters that a cell names: `?a= &b=`.
fn told_parameters(cell: &str) -> BTreeSet<String> {
    let lists = quoted(cell).filter(|text| text.starts_with('?'));
    let parameters = lists.flat_map(str::split_whitespace);
    names(parameters.map(|text| text.trim_start_matches(['?', '&']).split('=').next().unwrap()))
}

#[tokio::test]
async fn the_readme_names_every_operation_with_its_parameters_and_headers() {
    let test = TestApp::start().await;
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let operations = operations(&served(&test, "/openapi.json").await);
    let headers: BTreeSet<&String> = operations.values().flat_map(|[_, headers]| headers).collect();
    let mut seen = Vec::new();
    for row in &tables(&readme, "API")[0] {
        let [first, second] = row.as_slice() else { panic!("{row:?}") };
        let told = told_parameters(second);
        let told_headers: BTreeSet<String> =
            headers.iter().filter(|name| second.contains(name.as_str())).map(ToString::to_string).collect();
        let mut taken = BTreeSet::new();
        for name in named(first) {
            let [parameters, headers] =
                operations.get(&name).unwrap_or_else(|| panic!("{name} is no operation"));
            assert!(parameters.is_empty() || *parameters == told, "{name}: {parameters:?}, told {told:?}");
            assert_eq!(*headers, told_headers, "{name}");
            taken.extend(parameters.iter().cloned());
            seen.push(name);
        }
        assert_eq!(taken, told, "{first}");
    }
    seen.sort();
    let all: Vec<String> = operations.into_keys().collect();
    assert_eq!(seen, all);
    test.finish().await;
}

#[tokio::test]
async fn the_readme_names_every_code_of_a_problem_with_its_status() {
    let test = TestApp::start().await;
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut told = BTreeMap::new();
    for row in &tables(&readme, "API")[1] {
        let [statuses, codes] = row.as_slice() else { panic!("{row:?}") };
        let is_code = |text: &&str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        for code in quoted(codes).filter(is_code) {
            assert!(told.insert(code.to_owned(), statuses.clone()).is_none(), "{code} stands there twice");
        }
    }
    for code in served(&test, "/problems").await.as_array().unwrap() {
        let (code, status) = (code["code"].as_str().unwrap(), code["status"].to_string());
        let statuses = told.remove(code).unwrap_or_else(|| panic!("{code} is not there"));
        assert!(statuses.split(", ").any(|told| told == status), "{code} is {status}, not {statuses}");
    }
    assert!(told.is_empty(), "these are no codes: {told:?}");
    test.finish().await;
}

#[test]
fn the_code_map_names_every_part_of_the_source() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = tables(&architecture, "Code map").remove(0);
    let told: BTreeSet<String> = map.iter().flat_map(|row| names(quoted(&row[0]))).collect();
    for name in &told {
        assert!(root().join(name).exists(), "{name} is not there");
    }
    for folder in ["src", "tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let end = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
            let name = format!("{folder}/{}{end}", entry.file_name().to_str().unwrap());
            assert!(told.contains(&name), "{name} is not in the code map");
        }
    }
}

#[test]
fn a_table_is_read_as_it_is_meant() {
    let document = "# A\n\n## One x\n\n| a | b |\n|---|---|\n| `GET /a`, `/b`, `PUT /c` | `x\\|y`, `?d= &e=1\\|2` |\n\nz\n\n|||\n|---|---|\n| 1 | |\n\n## B\n";
    let [first, second] = tables(document, "One").try_into().unwrap();
    assert_eq!(second, [["1", ""]]);
    let [first] = first.try_into().unwrap();
    assert_eq!(named(&first[0]), ["GET /a", "GET /b", "PUT /c"]);
    assert_eq!(quoted(&first[1]).collect::<Vec<_>>(), ["x|y", "?d= &e=1|2"]);
    assert_eq!(told_parameters(&first[1]), names(["d", "e"]));
}
