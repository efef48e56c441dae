//! PostgreSQL: the data folder, the settings and the user it runs as.
//!
//! Owns the folder `postgres` of the stack. Must not touch the system's own clusters. Invariants: commits are durable
//! (`fsync` and `synchronous_commit` are on), it listens on loopback only, and it never runs as root.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Signal;

use crate::member::Member;
use crate::ports;
use crate::process::{Process, run};
use crate::ready::{Probe, failure};
use crate::spec::Spec;
use crate::start::Context;

/// A unix socket's path must fit into 107 bytes; the rest is for `/.s.PGSQL.65535`.
const LONGEST_SOCKET_DIR: usize = 90;
const HELPER_WITHIN: Duration = Duration::from_mins(1);

/// Creates the data folder if needed, starts the server and waits until it answers.
pub(crate) fn start(context: &Context) -> Result<Member> {
    let home = context.folder("postgres")?;
    let sockets = context.folder("postgres/sockets")?;
    let identity = server_user()?;
    if let Some((user, group)) = identity {
        for folder in [&home, &sockets] {
            chown(folder, Some(user), Some(group))
                .with_context(|| format!("cannot give {} to PostgreSQL's user", folder.display()))?;
        }
    }
    if !home.join("complete").exists() {
        create(context, &home, identity)?;
    }
    let address = ports::free()?;
    let mut spec = helper(context, &home, "postgres", &context.programs.postgres, identity);
    spec.args = settings(&home, &sockets, address);
    // SIGINT ends the sessions and stops; SIGTERM would wait for every client to leave.
    spec.stop_signal = Signal::INT;
    spec.discard_signal = Signal::QUIT;
    spec.guard_signal = "QUIT";
    let member = context.member(spec, address, Probe::Postgres);
    member.start()?;
    Ok(member)
}

fn settings(home: &Path, sockets: &Path, address: SocketAddr) -> Vec<String> {
    let sockets = sockets.display().to_string();
    let sockets = if sockets.len() > LONGEST_SOCKET_DIR { "" } else { &sockets };
    let mut args = vec!["-D".to_owned(), data(home).display().to_string()];
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("port={}", address.port()),
        &format!("unix_socket_directories={sockets}"),
        "fsync=on",
        "synchronous_commit=on",
        "max_connections=300",
        "shared_buffers=1GB",
        // As a busy server has it: the default of 1 GB is written in seconds, and then the next checkpoint begins.
        "max_wal_size=4GB",
        // Files in the data folder instead of /dev/shm, where a killed server would leave them.
        "dynamic_shared_memory_type=mmap",
        "log_line_prefix=%m [%p] %d ",
        "log_checkpoints=off",
    ] {
        args.extend(["-c".to_owned(), setting.to_owned()]);
    }
    args
}

/// `initdb` with the superuser `holdfast`, then the database of the same name in single-user mode: no client program
/// is needed. The file `complete` marks the end, so that an interrupted creation is started over.
fn create(context: &Context, home: &Path, identity: Option<(u32, u32)>) -> Result<()> {
    let data = data(home);
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let password = home.join("password");
    fs::write(&password, "holdfast\n")?;
    if let Some((user, group)) = identity {
        chown(&password, Some(user), Some(group))?;
    }
    let mut initdb = helper(context, home, "initdb", &context.programs.initdb, identity);
    // The files are not worth a sync before the first real commit.
    initdb.args =
        ["-U", "holdfast", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            .map(str::to_owned)
            .to_vec();
    initdb.args.push(format!("--pwfile={}", password.display()));
    initdb.args.push(format!("--pgdata={}", data.display()));
    finish(context, initdb)?;

    let script = "echo 'CREATE DATABASE holdfast' | \"$0\" --single -D \"$1\" postgres";
    let mut database = helper(context, home, "createdb", Path::new("/bin/sh"), identity);
    database.args = ["-c", script].map(str::to_owned).to_vec();
    database.args.push(context.programs.postgres.display().to_string());
    database.args.push(data.display().to_string());
    finish(context, database)?;
    fs::write(home.join("complete"), "")?;
    Ok(())
}

fn finish(context: &Context, spec: Spec) -> Result<()> {
    let (name, log) = (spec.name.clone(), spec.log.clone());
    let status = run(spec, &context.guard, HELPER_WITHIN)?;
    if status.success() {
        return Ok(());
    }
    let empty = Spec::new(&name, Path::new(""), Vec::new(), Path::new("/"), &log);
    let process = Process::new(empty, std::sync::Arc::clone(&context.guard));
    Err(failure(&process, &format!("failed ({status}); can PostgreSQL's user reach the stack's folder?")))
}

fn helper(context: &Context, home: &Path, name: &str, program: &Path, user: Option<(u32, u32)>) -> Spec {
    let mut spec = Spec::new(name, program, Vec::new(), home, &context.log(name));
    spec.identity = user;
    spec.env.push(("HOME".to_owned(), home.display().to_string()));
    spec
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, else as `nobody`.
fn server_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let find = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = find("postgres").or_else(|| find("nobody"));
    user.map(Some)
        .ok_or_else(|| anyhow!("PostgreSQL cannot run as root, and there is no user postgres or nobody"))
}
