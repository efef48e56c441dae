//! Finds the installed servers.
//!
//! Owns the places of Debian, of Ubuntu and `PATH`, and the names of the packages. Must not start anything. Invariant:
//! everything that is missing is reported at once, in one line, with the command that installs it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::start::StackOptions;

/// Where to look: a file system root and the folders of `PATH`.
pub(crate) struct Search {
    root: PathBuf,
    path: Vec<PathBuf>,
}

/// The programs of every server that was asked for; the others stay empty.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    pub(crate) java: PathBuf,
    pub(crate) zookeeper_classpath: String,
    pub(crate) epmd: PathBuf,
    pub(crate) rabbitmq_server: PathBuf,
    pub(crate) rabbitmqctl: PathBuf,
}

/// ZooKeeper's jar names most of these in its manifest, but not in every release, and none binds the logging.
const JARS: [&str; 12] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "log4j-1.2",
    "netty-all",
    "metrics-core",
    "snappy-java",
    "commons-cli",
    "jackson-databind",
    "findbugs-annotations",
    "jline",
];

impl Search {
    /// The real file system and the real `PATH`.
    pub(crate) fn system() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        Self { root: "/".into(), path: std::env::split_paths(&path).chain(sbin).collect() }
    }

    /// Finds what `options` needs.
    pub(crate) fn programs(&self, options: &StackOptions) -> Result<Programs> {
        let mut missing = Missing::default();
        let mut found = Programs::default();
        if options.postgres {
            let bin = self.newest("usr/lib/postgresql", "", "bin/postgres");
            let bin = bin.as_deref().and_then(Path::parent);
            let program = |name: &str| bin.map(|bin| bin.join(name)).or_else(|| self.on_path(name));
            found.postgres = missing.or("PostgreSQL's server", "postgresql", program("postgres"));
            found.initdb = missing.or("PostgreSQL's server", "postgresql", program("initdb"));
        }
        if options.zookeeper_nodes > 0 {
            found.java = missing.or("java", "default-jre-headless", self.on_path("java"));
            let jars: Vec<PathBuf> = JARS.iter().filter_map(|name| self.jar(name)).collect();
            missing.or("ZooKeeper's zookeeper.jar", "zookeeper", self.jar("zookeeper"));
            let names: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
            found.zookeeper_classpath = names.join(":");
        }
        if options.rabbitmq_nodes > 0 {
            found.epmd = missing.or("Erlang's epmd", "erlang-base", self.on_path("epmd"));
            missing.or("Erlang's erl", "erlang-base", self.on_path("erl"));
            let script = |name: &str| self.rabbitmq(name);
            found.rabbitmq_server =
                missing.or("RabbitMQ's server", "rabbitmq-server", script("rabbitmq-server"));
            found.rabbitmqctl = missing.or("RabbitMQ's server", "rabbitmq-server", script("rabbitmqctl"));
        }
        missing.check()?;
        Ok(found)
    }

    /// The scripts themselves. What Debian has in `/usr/sbin` is a wrapper that runs only as its system service.
    fn rabbitmq(&self, name: &str) -> Option<PathBuf> {
        let direct = self.root.join("usr/lib/rabbitmq/bin").join(name);
        if direct.is_file() {
            return Some(direct);
        }
        self.newest("usr/lib/rabbitmq/lib", "rabbitmq_server-", &format!("sbin/{name}"))
            .or_else(|| self.on_path(name).filter(|found| !found.starts_with(self.root.join("usr/sbin"))))
    }

    fn jar(&self, name: &str) -> Option<PathBuf> {
        Some(self.root.join(format!("usr/share/java/{name}.jar"))).filter(|jar| jar.is_file())
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|dir| dir.join(name)).find(|file| file.is_file())
    }

    /// `base/PREFIXversion/file` of the highest version that has the file.
    fn newest(&self, base: &str, prefix: &str, file: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.root.join(base)).ok()?;
        entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(prefix)?.split('.').map(str::parse::<u32>);
                let version: Vec<u32> = version.collect::<Result<_, _>>().ok()?;
                Some((version, entry.path().join(file))).filter(|(_, file)| file.is_file())
            })
            .max()
            .map(|(_, file)| file)
    }
}

#[derive(Default)]
struct Missing {
    things: Vec<&'static str>,
    packages: Vec<&'static str>,
}

impl Missing {
    fn or(&mut self, thing: &'static str, package: &'static str, found: Option<PathBuf>) -> PathBuf {
        if found.is_none() && !self.things.contains(&thing) {
            self.things.push(thing);
            if !self.packages.contains(&package) {
                self.packages.push(package);
            }
        }
        found.unwrap_or_default()
    }

    fn check(&self) -> Result<()> {
        if self.things.is_empty() {
            return Ok(());
        }
        bail!(
            "missing: {}; install: sudo apt-get install {}",
            self.things.join(", "),
            self.packages.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(root: &Path, name: &str) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }

    #[test]
    fn names_everything_that_is_missing_in_one_line() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "bin/erl");
        put(root.path(), "bin/epmd");
        let search = Search { root: root.path().into(), path: vec![root.path().join("bin")] };
        let error = search.programs(&StackOptions::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "missing: PostgreSQL's server, java, ZooKeeper's zookeeper.jar, RabbitMQ's server; install: \
             sudo apt-get install postgresql default-jre-headless zookeeper rabbitmq-server"
        );
    }

    #[test]
    fn takes_the_highest_version() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9.6/bin/postgres", "15/bin/postgres", "16/bin/psql"] {
            put(root.path(), &format!("usr/lib/postgresql/{name}"));
        }
        let search = Search { root: root.path().into(), path: vec![] };
        let options = StackOptions { zookeeper_nodes: 0, rabbitmq_nodes: 0, ..StackOptions::default() };
        let found = search.programs(&options).unwrap();
        assert!(found.postgres.ends_with("15/bin/postgres"), "{found:?}");
    }
}
