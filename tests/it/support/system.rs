//! The whole system as it runs in production: the real binary as separate processes, beside private servers.
//!
//! Owns how each role is started and configured. A role goes by its name in the stack: `api`, `api-b`, `sandbox`, and
//! the names that a test gives its workers. All are children of the stack: a failed test leaves nothing behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::Path,
    time::Duration,
};

use devstack::{Stack, StackOptions};
use holdfast::provider::install_crypto_provider;
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{events, eventually};

/// Longer than anything takes here; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The workers as [`System::start_roles`] starts them, each in a process of its own.
pub(crate) const WORKERS: [&str; 4] =
    ["worker-payment", "worker-fulfilment", "worker-expiry", "worker-relay"];

/// How often to look whether something has happened.
const POLL: Duration = Duration::from_millis(10);

/// Which servers a test needs besides PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    ZooKeeperAndRabbitMq,
    RabbitMq,
    ZooKeeper,
    Neither,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) output: String,
}

impl Finished {
    /// Its output, if it succeeded.
    pub(crate) fn expect_success(self, what: &str) -> String {
        assert!(self.success, "{what} failed:\n{}", self.output);
        self.output
    }
}

/// Private servers, migrated, with an API key, and the processes that a test starts.
pub(crate) struct System {
    pub(crate) stack: Stack,
    /// The test's own connections.
    pub(crate) database: PgPool,
    pub(crate) http: reqwest::Client,
    /// API key.
    pub(crate) key: String,
    urls: BTreeMap<&'static str, String>,
    environment: Vec<(String, String)>,
}

impl System {
    /// Starts the servers. Nothing of ours runs yet.
    pub(crate) async fn start(servers: Servers, settings: &[(&str, &str)]) -> Self {
        let zookeeper = matches!(servers, Servers::ZooKeeper | Servers::ZooKeeperAndRabbitMq);
        let options = StackOptions {
            zookeeper_nodes: u8::from(zookeeper),
            rabbitmq_nodes: u8::from(matches!(servers, Servers::RabbitMq | Servers::ZooKeeperAndRabbitMq)),
            ..StackOptions::default()
        };
        let stack = block_in_place(|| Stack::start(options));
        let stack = stack.unwrap_or_else(|error| panic!("cannot start the servers: {error:#}"));
        let urls: BTreeMap<_, _> =
            ["api", "api-b", "sandbox"].map(|name| (name, format!("127.0.0.1:{}", free_port()))).into();
        let mut environment = stack.environment();
        let mut set = |name: &str, value: &str| environment.push((name.to_owned(), value.to_owned()));
        set("HOLDFAST__PROVIDER__BASE_URL", &format!("http://{}", urls["sandbox"]));
        set("HOLDFAST__PROVIDER__SECRET_KEY", "sk_test_of_the_tests");
        set("HOLDFAST__PROVIDER__TIMEOUT_MS", "4000");
        set("HOLDFAST__SANDBOX__BIND", &urls["sandbox"]);
        set("HOLDFAST__LOCK__BACKEND", if zookeeper { "zookeeper" } else { "none" });
        set("HOLDFAST__WORKER__RELAY__LEASE_SECONDS", "2");
        // Says which events were handled.
        set("HOLDFAST__TELEMETRY__FILTER", "info,zookeeper_client=warn,holdfast::worker=debug");
        for (name, value) in settings {
            set(name, value);
        }
        let url = stack.addresses().postgres_url.clone().unwrap();
        let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
        let database = pool.connect_lazy(&url).unwrap();
        install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut system = Self { stack, database, http, key: String::new(), urls, environment };
        system.run(&["migrate"]).await.expect_success("migrate");
        let output = system
            .run(&["keys", "create", "--name", "test", "--scopes", "admin"])
            .await
            .expect_success("keys create");
        let secret = output.lines().find(|line| line.starts_with("hf_"));
        secret.unwrap().clone_into(&mut system.key);
        system
    }

    /// Starts the sandbox, the workers and one API, and waits until it answers.
    pub(crate) async fn start_roles(&self) {
        self.spawn("sandbox", &["sandbox"], &[]);
        for name in WORKERS {
            self.worker(name, &[name.trim_start_matches("worker-")]);
        }
        self.api("api").await;
    }

    /// Starts an API, `api` or `api-b`, and waits until it answers.
    pub(crate) async fn api(&self, name: &str) {
        self.spawn(name, &["api"], &[("HOLDFAST__HTTP__BIND", &self.urls[name])]);
        self.ready(name).await;
    }

    /// Starts a process of workers.
    pub(crate) fn worker(&self, name: &str, kinds: &[&str]) {
        self.spawn(name, &[&["worker"], kinds].concat(), &[]);
    }

    /// Starts the binary.
    pub(crate) fn spawn(&self, name: &str, args: &[&str], settings: &[(&str, &str)]) {
        self.spawn_program(name, Path::new(env!("CARGO_BIN_EXE_holdfast")), args, settings);
    }

    /// Starts another program in the same environment.
    pub(crate) fn spawn_program(&self, name: &str, program: &Path, args: &[&str], settings: &[(&str, &str)]) {
        let mut environment = self.environment.clone();
        environment.extend(settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        self.stack.spawn(name, program, args, &environment).unwrap();
    }

    /// Where a role listens.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}", self.urls[name])
    }

    /// Waits until an API can take orders.
    pub(crate) async fn ready(&self, name: &str) {
        let url = format!("{}/readyz", self.url(name));
        let ready = || async {
            let answer = self.http.get(&url).timeout(Duration::from_secs(3)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        eventually(&format!("{name} is ready"), PATIENCE, ready).await;
    }

    /// `kill -9`, and started again.
    pub(crate) fn crash(&self, name: &str) {
        block_in_place(|| self.stack.kill(name).and_then(|()| self.stack.restart(name))).unwrap();
    }

    /// Everything that a process has written so far.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.stack.log_file(name)).unwrap_or_default()
    }

    /// Waits until a process has written this.
    pub(crate) async fn wait_for_log(&self, name: &str, text: &str) {
        let written = || async { self.log(name).contains(text) };
        eventually(&format!("{name} writes {text:?}"), PATIENCE, written).await;
    }

    /// Waits until a process has ended; gives whether it succeeded.
    pub(crate) async fn wait_exit(&self, name: &str, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if let Ok(status) = self.stack.wait_exit(name, Duration::ZERO) {
                return status.success();
            }
            assert!(Instant::now() < deadline, "{name} still runs after {within:?}:\n{}", self.log(name));
            sleep(POLL).await;
        }
    }

    /// Waits until a command that was started by this name has ended.
    pub(crate) async fn finish(&self, name: &str, within: Duration) -> Finished {
        let success = self.wait_exit(name, within).await;
        Finished { success, output: self.log(name) }
    }

    /// Runs a command of the binary.
    pub(crate) async fn run(&self, args: &[&str]) -> Finished {
        let before = self.log(args[0]).len();
        self.spawn(args[0], args, &[]);
        let Finished { success, output } = self.finish(args[0], PATIENCE).await;
        Finished { success, output: output[before..].to_owned() }
    }

    /// Imports levels: CSV with a header.
    pub(crate) async fn import_stock(&self, csv: &str) {
        let file = self.write("stock.csv", csv);
        self.run(&["stock", "import", &file]).await.expect_success("stock import");
    }

    /// Begins to replay the first orders of the sample, under the name `replay`, after importing the stock they want.
    pub(crate) async fn begin_replay(&self, orders: usize, options: &[&str]) {
        let sample = read_sample("orders.csv");
        let mut lines = sample.lines();
        let mut file = format!("{}\n", lines.next().unwrap());
        let (mut taken, mut last, mut skus) = (0, "", BTreeSet::new());
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            taken += usize::from(fields[0] != last);
            last = fields[0];
            if taken > orders {
                break;
            }
            skus.insert(fields[3]);
            file.extend([line, "\n"]);
        }
        let stock = read_sample("stock.csv");
        let wanted =
            |line: &&str| line.split_once(',').is_some_and(|(sku, _)| skus.contains(sku) || sku == "sku");
        self.import_stock(&stock.lines().filter(wanted).collect::<Vec<_>>().join("\n")).await;
        let file = self.write("orders.csv", &file);
        let url = self.url("api");
        let fixed = ["replay", &file, "--url", &url, "--key", &self.key, "--patience", "120"];
        self.spawn("replay", &[&fixed, options].concat(), &[]);
    }

    /// Waits until the replay has ended; gives what it printed, if all adds up.
    pub(crate) async fn finish_replay(&self) -> String {
        let output = self.finish("replay", Duration::from_secs(150)).await.expect_success("replay");
        assert!(output.contains("it adds up"), "{output}");
        output
    }

    /// That every invariant holds, every event fits its type, nothing is a dead letter, and nothing happened twice.
    pub(crate) async fn assert_clean(&self) {
        events::assert_all_fit(&mut self.database.acquire().await.unwrap()).await;
        self.run(&["verify"]).await.expect_success("verify");
        assert_eq!(self.count("SELECT count(*) FROM dead_letter").await, 0);
        let shipped_twice = "SELECT count(*) FROM (SELECT order_id FROM shipment WHERE status <> 'canceled'
                             GROUP BY order_id HAVING count(*) > 1) AS twice";
        assert_eq!(self.count(shipped_twice).await, 0);
    }

    /// That every event comes to its effect, soon, and none does twice.
    pub(crate) async fn assert_accounted_for(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Finished { success, output } = self.run(&["audit", "--since", "1h", "--grace", "0s"]).await;
            if success && output.contains("audit: 0 violations, 0 events on their way") {
                return;
            }
            assert!(Instant::now() < deadline, "{output}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// That no payment was taken twice, as the provider sees it.
    pub(crate) async fn assert_charged_once(&self) {
        let summary = self.summary().await;
        let most = |name: &str| summary[name].as_u64().unwrap();
        assert!(most("captures_per_payment_max") <= 1, "{summary}");
        assert!(most("authorizations_per_payment_max") <= 1, "{summary}");
        assert!(most("captured") > 0, "{summary}");
    }

    /// What happened to money, as the provider sees it.
    pub(crate) async fn summary(&self) -> Value {
        let url = format!("{}/sandbox/summary", self.url("sandbox"));
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.stack.dir().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for System {
    /// The logs go with the folder: of a failed test, show their ends.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for status in self.stack.status().into_iter().filter(|status| status.address.is_none()) {
            let log = self.log(&status.name);
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- {} (pid {:?}, paused {})\n{end}", status.name, status.pid, status.paused);
        }
    }
}

fn read_sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

/// Below the kernel's ephemeral ports and below those of the servers, so that nobody takes it while its owner is down.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
