//! Programs that are built beside the tests: see `tests/programs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A holder that reads in one transaction and writes in another.
pub(crate) fn fenced_holder() -> PathBuf {
    program("fenced_holder")
}

/// A consumer that does what its events say.
pub(crate) fn troubled_consumer() -> PathBuf {
    program("troubled_consumer")
}

/// What connections cost that say nothing.
pub(crate) fn idle_connections() -> PathBuf {
    program("idle_connections")
}

/// How fast the relay is.
pub(crate) fn relay_rate() -> PathBuf {
    program("relay_rate")
}

/// Cargo builds it beside the test binary, but not for a run of this binary alone: an old one would prove nothing.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let mut sources = sources.split_whitespace().skip(1).map(Path::new);
    let current = changed(&program)
        .is_ok_and(|built| sources.all(|source| changed(source).is_ok_and(|source| source <= built)));
    assert!(current, "{} is missing or out of date: cargo build --example {name}", program.display());
    program
}
