//! The process tree, read from `/proc`.
//!
//! Owns the reading only; it must not signal. Invariant: what it returns is a moment's picture, so a caller may
//! signal a descendant only while its parent is stopped and therefore cannot reap it and free its id.

use std::collections::HashSet;
use std::fs;

/// The descendants of `root`, parents before children, without `root`.
pub(crate) fn descendants(root: i32) -> Vec<i32> {
    let table = parents();
    let mut known = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let layer: Vec<i32> = table
            .iter()
            .filter(|(pid, parent)| known.contains(parent) && !known.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if layer.is_empty() {
            return found;
        }
        known.extend(&layer);
        found.extend(layer);
    }
}

/// True when the process runs no more. A zombie counts: it waits only for its parent, or for init.
pub(crate) fn is_gone(pid: i32) -> bool {
    stat(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X'))
}

fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(_, parent)| (pid, parent)))
        .collect()
}

/// State and parent from `/proc/PID/stat`: `12 (any (name)) S 1 ...`; the name may hold spaces and brackets.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn finds_grandchildren() {
        let mut shell = Command::new("/bin/sh").args(["-c", "sleep 5 & wait"]).spawn().unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen = super::descendants(root);
            if !seen.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let all = super::descendants(me);
        assert_eq!(seen.len(), 1);
        assert!(all.contains(&root) && all.contains(&seen[0]));
        let sleep = rustix::process::Pid::from_raw(seen[0]).unwrap();
        rustix::process::kill_process(sleep, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(super::is_gone(root));
    }
}
