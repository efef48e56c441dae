//! The walk-through of README.md, run as it stands there: by bash and curl, against every process.
//!
//! In its blocks a line that begins with `# ` is what the command before it prints, with `…` for what is left out.

use std::{fmt::Write as _, fs, path::Path};

use tokio::process::Command;

use crate::support::system::{PATIENCE, Servers, System};

/// Stands between the outputs of two steps.
const MARK: &str = "--- the end of a step ---";

/// A piece of the script, and what it prints.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    commands: String,
    shown: Vec<String>,
}

/// The steps of the section of this heading, without what starts the service.
fn steps(readme: &str, heading: &str) -> Vec<Step> {
    let section = readme.split("\n## ").find(|section| section.starts_with(heading));
    let blocks = section.unwrap_or_else(|| panic!("no section {heading}")).split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("\n```").next().unwrap().lines());
    let mut steps = vec![Step::default()];
    for line in lines.filter(|line| !line.starts_with("make ") && !line.starts_with("API=")) {
        let last = steps.last_mut().unwrap();
        if let Some(shown) = line.strip_prefix("# ") {
            last.shown.push(shown.to_owned());
        } else if last.shown.is_empty() {
            writeln!(last.commands, "{line}").unwrap();
        } else {
            steps.push(Step { commands: format!("{line}\n"), shown: Vec::new() });
        }
    }
    steps
}

/// Whether a line is what is shown of it.
fn is_shown(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_through_does_what_the_readme_shows() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let steps = steps(&readme, "One order");
    let marked = |step: &Step| format!("{}echo '{MARK}'\n", step.commands);
    let script: String = steps.iter().map(marked).collect();
    let system = System::start(Servers::ZooKeeperAndRabbitMq, &[]).await;
    system.start_roles().await;
    let mut bash = Command::new("bash");
    bash.args(["-u", "-c", &script]).env("API", system.url("api")).env("KEY", &system.key).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, bash.output()).await;
    let output = output.expect("the walk-through ends").expect("bash and curl are installed");
    let (printed, complaints) = (text(output.stdout), text(output.stderr));
    assert_eq!(complaints, "", "{printed}");
    let printed: Vec<&str> = printed.split_terminator(&format!("{MARK}\n")).collect();
    assert_eq!(printed.len(), steps.len(), "{printed:?}");
    for (step, printed) in steps.iter().zip(printed) {
        let lines: Vec<&str> = printed.lines().collect();
        let agrees = step.shown.iter().zip(&lines).all(|(shown, line)| is_shown(shown, line));
        assert!(agrees && lines.len() == step.shown.len(), "{step:#?} printed\n{printed}");
    }
    system.wait_for_empty_outbox().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
    assert_eq!(system.summary().await["refunded"], 1);
}

#[test]
fn commands_and_what_they_print_are_told_apart() {
    let readme = "# A\n\n## One x\n\n```sh\nmake run\n```\n\nTo do:\n\n```sh\nAPI=x KEY=y\na \\\n  b\n# c…d\n# e\nf\n```\n\n## B\n\n```sh\ng\n```\n";
    let step = |commands: &str, shown: &[&str]| Step {
        commands: commands.to_owned(),
        shown: shown.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(steps(readme, "One"), [step("a \\\n  b\n", &["c…d", "e"]), step("f\n", &[])]);
    for (shown, line, expected) in [
        ("ab", "ab", true),
        ("ab", "abc", false),
        ("a…c", "abc", true),
        ("a…c…", "abcd", true),
        ("a…x…d", "abcd", false),
        ("a…c…b", "abcb", true),
        ("…a", "b", false),
    ] {
        assert_eq!(is_shown(shown, line), expected, "{shown} {line}");
    }
}
