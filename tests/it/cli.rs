//! The binary: what it says when something is wrong, in one line, and how it ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use holdfast::{
    lock::{LockManager as _, LockOwner},
    store::invariants::INVARIANTS,
};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{
    database::TestDatabase,
    in_ms,
    sandbox::{SECRET_KEY, TestSandbox},
    stack,
    zookeeper::{self, Locks},
};

/// Nothing listens there.
pub(crate) const NOWHERE: &str = "127.0.0.1:1";

/// The binary with everything it needs, in an environment of its own.
pub(crate) struct Cli {
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    stderr: String,
}

impl Cli {
    pub(crate) fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(Uuid::now_v7().simple().to_string());
        fs::create_dir_all(&folder).unwrap();
        Self { environment: stack::shared().environment(), folder }
            .with("HOLDFAST__DATABASE__ACQUIRE_TIMEOUT_MS", "1000")
            .with("HOLDFAST__BUS__RABBITMQ__PREFIX", &format!("test-{}", Uuid::now_v7().simple()))
            .with("HOLDFAST__PROVIDER__SECRET_KEY", SECRET_KEY)
            // What a process did well until then is not of interest here.
            .with("HOLDFAST__TELEMETRY__FILTER", "warn")
    }

    /// With a database.
    fn on(database: &TestDatabase) -> Self {
        Self::new().with("HOLDFAST__DATABASE__URL", &database.url)
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("HOLDFAST")) {
            command.env_remove(key);
        }
        command.args(arguments).envs(self.environment.iter().cloned()).current_dir(&self.folder);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Ended {
    /// That the command failed with one line that holds all of this.
    pub(crate) fn fails_with(&self, parts: &[&str]) {
        assert_eq!((self.code, self.stderr.lines().count()), (Some(1), 1), "{self:?}");
        assert!(self.stderr.starts_with("holdfast: ") && self.stdout.is_empty(), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part}: {self:?}");
        }
    }

    /// What the command printed, if it succeeded.
    pub(crate) fn prints(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }
}

#[tokio::test]
async fn a_wrong_setting_is_named_in_one_line() {
    for (key, value, parts) in [
        ("HOLDFAST__HTTP__BINDD", "x", ["unknown field", "bindd"]),
        ("HOLDFAST__HTPP__BIND", "x", ["unknown field", "htpp"]),
        ("HOLDFAST__LOCK__BACKEND", "etcd", ["etcd", "lock.backend"]),
        ("HOLDFAST__DATABASE__MAX_CONNECTIONS", "many", ["many", "database.max_connections"]),
        ("HOLDFAST__DATABASE__MAX_CONNECTIONS", "1", ["database.max_connections is 1", "at least 2"]),
        ("HOLDFAST__DATABASE__LOCK_TIMEOUT_MS", "0", ["database.lock_timeout_ms is 0", "at least"]),
        (
            "HOLDFAST__LOCK__ZOOKEEPER__ALLOW_OPEN_ACL",
            "false",
            ["lock.zookeeper.auth is empty", "set user:password"],
        ),
        (
            "HOLDFAST__BUS__RABBITMQ__PREFIX",
            "amq.shop",
            ["bus.rabbitmq.prefix is \"amq.shop\"", "must be 1 to 100"],
        ),
        ("HOLDFAST__TELEMETRY__FILTER", "holdfast=loud", ["telemetry.filter", "loud"]),
    ] {
        Cli::new().with(key, value).run(&["verify"]).await.fails_with(&parts);
    }
    let cli = Cli::new();
    let file = cli.file("wrong.toml", "[worker.relay]\nwindov = 1\n");
    cli.run(&["--config", &file, "verify"]).await.fails_with(&["unknown field", "windov"]);
    let file = cli.file("broken.toml", "[worker\n");
    cli.run(&["--config", &file, "verify"]).await.fails_with(&["configuration: ", "broken.toml"]);
    cli.run(&["--config", "missing.toml", "verify"]).await.fails_with(&["configuration: ", "missing.toml"]);
}

#[tokio::test]
async fn a_setting_of_the_environment_goes_before_the_file() {
    let cli = Cli::new().with("HOLDFAST__DATABASE__MAX_CONNECTIONS", "1");
    let file = cli.file("good.toml", "[database]\nmax_connections = 5\n[worker.relay]\nwindow = 0\n");
    cli.run(&["--config", &file, "verify"]).await.fails_with(&["database.max_connections is 1"]);
}

#[tokio::test]
async fn a_missing_postgresql_is_named_with_its_address_and_what_to_do() {
    let url = format!("postgres://user:hunter2@{NOWHERE}/holdfast");
    let cli = Cli::new().with("HOLDFAST__DATABASE__URL", &url);
    for command in [&["migrate"][..], &["verify"], &["api"], &["worker"], &["all"], &["keys", "list"]] {
        let ended = cli.run(command).await;
        ended.fails_with(&["PostgreSQL at 127.0.0.1:1 ", "Start it, or set database.url"]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_missing_zookeeper_is_named_with_its_address_and_what_to_do() {
    let database = TestDatabase::create().await;
    let cli = Cli::on(&database).with("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", NOWHERE);
    let cli = cli.with("HOLDFAST__LOCK__ZOOKEEPER__REQUEST_TIMEOUT_MS", "1000");
    for command in ["api", "all"] {
        let ended = cli.run(&[command]).await;
        ended.fails_with(&["ZooKeeper at 127.0.0.1:1 ", "Start it, or set lock.zookeeper.servers"]);
    }
    // What needs no lock does not ask for one.
    cli.run(&["verify"]).await.prints();
    database.drop().await;
}

#[tokio::test]
async fn a_missing_rabbitmq_is_named_with_its_address_and_what_to_do() {
    let database = TestDatabase::create().await;
    let url = format!("amqp://user:hunter2@{NOWHERE}");
    let cli = Cli::on(&database).with("HOLDFAST__BUS__RABBITMQ__URL", &url);
    for command in ["worker", "all"] {
        let ended = cli.run(&[command]).await;
        ended.fails_with(&["RabbitMQ at 127.0.0.1:1 ", "Start it, or set bus.rabbitmq.url"]);
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    }
    database.drop().await;
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_until_it_is_migrated() {
    let database = TestDatabase::empty().await;
    let cli = Cli::on(&database);
    for command in [&["verify"][..], &["api"], &["worker"], &["stock", "import", "x.csv"], &["keys", "list"]]
    {
        cli.run(command).await.fails_with(&["lacks migrations", "holdfast migrate"]);
    }
    for _ in 0..2 {
        assert_eq!(cli.run(&["migrate"]).await.prints(), "the database is up to date\n");
    }
    cli.run(&["verify"]).await.prints();
    database.drop().await;
}

#[tokio::test]
async fn stock_is_imported_row_by_row_and_what_failed_is_printed() {
    let database = TestDatabase::create().await;
    let cli = Cli::on(&database);
    let import =
        async |file: &str, options: &[&str]| cli.run(&[&["stock", "import", file], options].concat()).await;
    let good = cli.file("good.csv", "sku,on_hand\na,1\nb,2\n");
    let ended = import(&good, &["--dry-run"]).await;
    assert!(ended.prints().contains("good.csv: 2 rows would be applied, 0 failed (imp_"), "{ended:?}");
    let ended = import(&good, &[]).await;
    assert!(ended.prints().contains("good.csv: 2 rows applied, 0 failed (imp_"), "{ended:?}");
    let mixed = cli.file("mixed.ndjson", "{\"sku\":\"a\",\"delta\":4}\n{\"sku\":\"x\",\"delta\":1}\n{}\n");
    let ended = import(&mixed, &["--mode", "delta"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("mixed.ndjson: 1 rows applied, 2 failed"), "{ended:?}");
    let expected =
        "line 2: sku there is no SKU x at location main\nline 3: sku is missing; delta is missing\n";
    assert_eq!(ended.stderr, expected);
    let other = cli.file("other.csv", "sku,on_hand\na,7\n");
    import(&other, &["--location", "north"]).await.prints();
    let many = format!("sku,on_hand\n{}", "a,x\n".repeat(60));
    let ended = import(&cli.file("many.csv", &many), &[]).await;
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 51), "{ended:?}");
    assert!(ended.stderr.contains("and 10 more: GET /v1/inventory/imports/imp_"), "{ended:?}");
    let broken = cli.file("broken.csv", "sku,count\na,1\n");
    let parts =
        ["nothing of", "broken.csv was imported", "\"count\" is not a field", "\"on_hand\" is missing"];
    import(&broken, &[]).await.fails_with(&parts);
    import("missing.csv", &[]).await.fails_with(&["cannot open missing.csv"]);
    let mut conn = database.connect().await;
    let levels =
        "SELECT string_agg(format('%s@%s %s', sku, location_id, on_hand), ', ' ORDER BY sku, location_id)
                  FROM inventory_level";
    let levels: String = sqlx::query_scalar(levels).fetch_one(&mut conn).await.unwrap();
    assert_eq!(levels, "a@main 5, a@north 7, b@main 2");
    let actors = "SELECT count(*) FROM stock_movement WHERE actor = 'holdfast stock import' AND reference LIKE 'imp_%'";
    let movements: i64 = sqlx::query_scalar(actors).fetch_one(&mut conn).await.unwrap();
    assert_eq!(movements, 4);
    drop(conn);
    database.drop().await;
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_revoked_once() {
    let database = TestDatabase::create().await;
    let cli = Cli::on(&database);
    let created =
        cli.run(&["keys", "create", "--name", "my shop", "--scopes", "orders:read,orders:write"]).await;
    assert_eq!(created.code, Some(0));
    let secret = created.stdout.trim_end();
    assert!(secret.starts_with("hf_") && secret.len() == 67, "{created:?}");
    let id = created.stderr.split_whitespace().next().unwrap();
    let listed = cli.run(&["keys", "list"]).await;
    let line = listed.prints();
    assert!(line.starts_with(id) && line.contains("live") && line.ends_with("my shop\n"), "{line}");
    assert!(!line.contains(secret) && line.lines().count() == 1, "{line}");
    let rotated = cli.run(&["keys", "rotate", id, "--expires-in", "3600"]).await;
    let second = rotated.stderr.split_whitespace().next().unwrap();
    assert!(rotated.code == Some(0) && rotated.stdout.starts_with("hf_") && second != id, "{rotated:?}");
    cli.run(&["keys", "rotate", second]).await.fails_with(&["2 live API keys", "revoke one first"]);
    cli.run(&["keys", "rotate", id, "--expires-in", "0"]).await.fails_with(&[]);
    let listed = cli.run(&["keys", "list"]).await;
    let lines: Vec<&str> = listed.prints().lines().collect();
    assert!(lines[0].starts_with(second) && lines[0].contains("  live  never used  "), "{lines:?}");
    assert!(lines[1].starts_with(id) && lines[1].contains("  live until "), "{lines:?}");
    assert_eq!(cli.run(&["keys", "revoke", id]).await.prints(), format!("{id} is revoked\n"));
    assert!(cli.run(&["keys", "list"]).await.prints().contains("revoked"));
    cli.run(&["keys", "revoke", id]).await.fails_with(&["the API key is revoked"]);
    let refused = cli.run(&["keys", "revoke", "1"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    cli.run(&["keys", "create", "--name", "", "--scopes", "admin"]).await.fails_with(&[]);
    database.drop().await;
}

#[tokio::test]
async fn the_doctor_names_what_is_ill() {
    let database = TestDatabase::create().await;
    let sandbox = TestSandbox::start().await;
    // The doctor looks for the same exchanges and queues each time.
    let prefix = format!("test-{}", Uuid::now_v7().simple());
    let cli = || {
        Cli::on(&database)
            .with("HOLDFAST__PROVIDER__BASE_URL", &sandbox.url)
            .with("HOLDFAST__BUS__RABBITMQ__PREFIX", &prefix)
    };
    let ended = cli().run(&["doctor"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("exchanges and queues") && ended.stdout.contains("are missing"),
        "{ended:?}"
    );
    cli().run(&["topology", "apply"]).await.prints();
    let ended = cli().run(&["doctor"]).await;
    assert_eq!((ended.code, ended.stdout.matches(" ok\n").count()), (Some(0), 4), "{ended:?}");
    for (key, value, ill) in [
        ("HOLDFAST__DATABASE__URL", &*format!("postgres://{NOWHERE}/x"), "PostgreSQL"),
        ("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", NOWHERE, "locks"),
        ("HOLDFAST__BUS__RABBITMQ__URL", &format!("amqp://{NOWHERE}"), "RabbitMQ"),
        ("HOLDFAST__PROVIDER__BASE_URL", &format!("http://{NOWHERE}"), "payment provider"),
        ("HOLDFAST__PROVIDER__SECRET_KEY", "sk_test_wrong", "payment provider"),
    ] {
        let ended = cli().with(key, value).run(&["doctor"]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for line in ended.stdout.lines() {
            assert_eq!(line.starts_with(ill), line.contains("FAILED: "), "{ended:?}");
        }
        assert_eq!(
            (ended.stdout.lines().count(), ended.stdout.matches("FAILED").count()),
            (4, 1),
            "{ended:?}"
        );
    }
    sandbox.stop().await;
    database.drop().await;
}

#[tokio::test]
async fn verify_ends_with_1_where_an_invariant_is_broken() {
    let database = TestDatabase::create().await;
    let cli = Cli::on(&database);
    let checked = format!("{} invariants checked", INVARIANTS.len());
    assert_eq!(cli.run(&["verify"]).await.prints(), format!("verify: {checked}, 0 broken\n"));
    let mut conn = database.connect().await;
    let seed = "INSERT INTO inventory_level (sku, location_id, on_hand) VALUES ('a', 'main', 5)";
    sqlx::query(seed).execute(&mut conn).await.unwrap();
    drop(conn);
    let ended = cli.run(&["verify"]).await;
    assert_eq!(ended.code, Some(1));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "I3 is broken 1 times: on_hand equals the sum of the stock ledger");
    assert!(
        lines[1].contains("a at main") && lines[2].ends_with(&format!("{checked}, 1 broken")),
        "{ended:?}"
    );
    let ended = cli.run(&["verify", "--json"]).await;
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &found["violations"][0]["id"]), (Some(1), &"I3".into()));
    database.drop().await;
}

#[tokio::test]
async fn the_settings_that_are_printed_are_the_defaults() {
    let ended = Cli::new().run(&["settings"]).await;
    assert_eq!(ended.prints(), holdfast::config::DEFAULTS);
}

#[tokio::test]
async fn locks_are_listed_from_outside() {
    let locks = Locks::cached(zookeeper::shared());
    let cli = Cli::new().with("HOLDFAST__LOCK__ZOOKEEPER__ROOT", &locks.root);
    let none = cli.run(&["locks", "list"]).await;
    assert_eq!(none.prints().lines().last(), Some("locks: 0 held"));
    let keys = ["a/1".to_owned(), "b".to_owned()];
    let manager = locks.manager().await;
    let guard = manager.acquire(&keys, LockOwner::new(), in_ms(5000)).await.unwrap();
    let listed = cli.run(&["locks", "list"]).await;
    let lines: Vec<Vec<&str>> =
        listed.prints().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["KEY", "HOLDER", "HELD", "WAITING"]);
    assert_eq!((&lines[1][..2], &lines[1][4..]), (&["a/1", "test"][..], &["0"][..]), "{lines:?}");
    assert_eq!(lines[3], ["locks:", "2", "held"]);
    let listed: Value = serde_json::from_str(cli.run(&["locks", "list", "--json"]).await.prints()).unwrap();
    assert_eq!((&listed[1]["key"], &listed[1]["waiting"]), (&"b".into(), &0.into()), "{listed}");
    guard.release().await;

    let away = Cli::new().with("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", NOWHERE);
    away.run(&["locks", "list"]).await.fails_with(&["ZooKeeper at 127.0.0.1:1 cannot be used"]);
    let without = Cli::new().with("HOLDFAST__LOCK__BACKEND", "none").run(&["locks", "list"]).await;
    assert_eq!(without.prints(), "locks: there are none, lock.backend is \"none\"\n");
}
