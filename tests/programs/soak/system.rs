//! The system of the soak: private servers, and each role as two processes of the real binary, each behind proxies of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use devstack::{Stack, StackOptions};
use holdfast::provider::install_crypto_provider;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::{
    Options,
    tcp_proxy::{TcpProxy, Traffic},
};

/// Every process that takes part, with its arguments.
pub(super) const ROLES: [(&str, &[&str]); 12] = [
    ("api-a", &["api"]),
    ("api-b", &["api"]),
    ("payment-a", &["worker", "payment"]),
    ("payment-b", &["worker", "payment"]),
    ("fulfilment-a", &["worker", "fulfilment"]),
    ("fulfilment-b", &["worker", "fulfilment"]),
    ("expiry-a", &["worker", "expiry"]),
    ("expiry-b", &["worker", "expiry"]),
    ("import-a", &["worker", "import"]),
    ("import-b", &["worker", "import"]),
    ("relay-a", &["worker", "relay"]),
    ("relay-b", &["worker", "relay"]),
];

/// The APIs.
pub(super) const APIS: [&str; 2] = ["api-a", "api-b"];

/// SKUs that many want, and how many others there are.
pub(super) const HOT: usize = 4;
pub(super) const OTHERS: usize = 40;

/// Shorter than the pauses, so that they have consequences.
const SETTINGS: [(&str, &str); 15] = [
    ("DATABASE__MAX_CONNECTIONS", "8"),
    ("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS", "5000"),
    ("LOCK__BACKEND", "zookeeper"),
    ("LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS", "4000"),
    ("LOCK__ZOOKEEPER__REQUEST_TIMEOUT_MS", "2000"),
    ("WORKER__RELAY__LEASE_SECONDS", "3"),
    ("PROVIDER__SECRET_KEY", "sk_test_of_the_soak"),
    ("PROVIDER__TIMEOUT_MS", "2000"),
    ("PROVIDER__WEBHOOK_SECRETS", "whsec_of_the_soak_whsec"),
    ("SANDBOX__LATE_SUCCESS_SECONDS", "20"),
    ("BUS__RABBITMQ__CONFIRM_TIMEOUT_MS", "4000"),
    ("HTTP__RATE_LIMIT__REQUESTS_PER_SECOND", "0"),
    ("ORDER__MAX_OPEN_PER_CUSTOMER", "0"),
    ("ORDER__MAX_EXTENSIONS", "3"),
    ("TELEMETRY__FILTER", "info,zookeeper_client=warn,lapin=error,sqlx::postgres::notice=warn"),
];

/// Between one process and the servers.
struct Links {
    postgres: TcpProxy,
    zookeeper: Vec<TcpProxy>,
    rabbitmq: Vec<TcpProxy>,
}

/// See the module.
pub(super) struct System {
    pub(super) stack: Stack,
    /// The soak's own connections.
    pub(super) database: PgPool,
    pub(super) http: reqwest::Client,
    pub(super) key: String,
    binary: PathBuf,
    urls: BTreeMap<&'static str, String>,
    environment: Vec<(String, String)>,
    links: BTreeMap<&'static str, Links>,
}

impl System {
    /// Starts the servers, makes the schema, a key and stock. No role runs yet.
    pub(super) async fn start(options: &Options) -> Self {
        let servers = StackOptions {
            zookeeper_nodes: options.zookeepers,
            rabbitmq_nodes: options.brokers,
            quiet: false,
            ..StackOptions::default()
        };
        let stack = block_in_place(|| Stack::start(servers));
        let stack = stack.unwrap_or_else(|error| panic!("cannot start the servers: {error:#}"));
        let urls: BTreeMap<_, _> =
            ["api-a", "api-b", "sandbox"].map(|name| (name, format!("127.0.0.1:{}", free_port()))).into();
        let mut environment = stack.environment();
        let mut set =
            |name: &str, value: &str| environment.push((format!("HOLDFAST__{name}"), value.to_owned()));
        for (name, value) in SETTINGS {
            set(name, value);
        }
        set("PROVIDER__BASE_URL", &format!("http://{}", urls["sandbox"]));
        set("SANDBOX__BIND", &urls["sandbox"]);
        set("SANDBOX__WEBHOOK_URL", &format!("http://{}/v1/provider-webhooks/stripe", urls["api-a"]));
        let mut links = BTreeMap::new();
        for (role, _) in ROLES {
            links.insert(role, Links::start(&stack).await);
        }
        let url = stack.addresses().postgres_url.clone().unwrap();
        let pool = PgPoolOptions::new().max_connections(12).acquire_timeout(Duration::from_secs(10));
        let database = pool.connect_lazy(&url).unwrap();
        install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        // Beside this program: target/debug/examples/soak, target/debug/holdfast.
        let binary = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("holdfast");
        let mut system = Self { stack, database, http, key: String::new(), binary, urls, environment, links };
        let (is_done, output) = system.run(&["migrate"]).await;
        assert!(is_done, "migrate failed:\n{output}");
        let (_, output) = system.run(&["keys", "create", "--name", "soak", "--scopes", "admin"]).await;
        output.lines().find(|line| line.starts_with("hf_")).unwrap().clone_into(&mut system.key);
        let hot = (0..HOT).map(|sku| format!("hot-{sku},500"));
        let others = (0..OTHERS).map(|sku| format!("sku-{sku},100000"));
        let rows: Vec<String> = ["sku,on_hand".to_owned()].into_iter().chain(hot).chain(others).collect();
        let file = system.stack.dir().join("stock.csv");
        fs::write(&file, rows.join("\n")).unwrap();
        let (is_done, output) = system.run(&["stock", "import", file.to_str().unwrap()]).await;
        assert!(is_done, "stock import failed:\n{output}");
        system
    }

    /// Starts the sandbox and every role, and waits for the APIs.
    pub(super) async fn start_roles(&self) {
        self.spawn("sandbox", &["sandbox"], &[]);
        for (name, args) in ROLES {
            let mut settings = self.links[name].settings(&self.stack);
            if let Some(url) = self.urls.get(name) {
                settings.push(("HOLDFAST__HTTP__BIND".to_owned(), url.clone()));
            }
            self.spawn(name, args, &settings);
        }
        for api in APIS {
            let deadline = Instant::now() + Duration::from_secs(90);
            while !self.is_ready(api).await {
                assert!(Instant::now() < deadline, "{api} is not ready:\n{}", self.log(api));
                // It ends where a server does not answer it soon enough when it starts.
                if self.stack.pid(api).is_none() {
                    block_in_place(|| self.stack.restart(api)).unwrap();
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn is_ready(&self, api: &str) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.url(api))).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn spawn(&self, name: &str, args: &[&str], settings: &[(String, String)]) {
        let environment = [&self.environment, settings].concat();
        self.stack.spawn(name, &self.binary, args, &environment).unwrap();
    }

    /// Runs a command of the binary, past the proxies. Gives whether it succeeded, and its output.
    pub(super) async fn run(&self, args: &[&str]) -> (bool, String) {
        let before = self.log(args[0]).len();
        self.spawn(args[0], args, &[]);
        let deadline = Instant::now() + Duration::from_mins(5);
        loop {
            if let Ok(status) = self.stack.wait_exit(args[0], Duration::ZERO) {
                return (status.success(), self.log(args[0])[before..].to_owned());
            }
            assert!(Instant::now() < deadline, "{args:?} still runs");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where an API or the sandbox listens.
    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}", self.urls[name])
    }

    /// What a process has written.
    pub(super) fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.stack.log_file(name)).unwrap_or_default()).into_owned()
    }

    /// Stops, or lets through again, what a role and a server say to each other.
    pub(super) fn part(&self, role: &str, server: &str, is_parted: bool) {
        let links = &self.links[role];
        let proxies = match server {
            "postgres" => std::slice::from_ref(&links.postgres),
            "zookeeper" => &links.zookeeper,
            _ => &links.rabbitmq,
        };
        for proxy in proxies {
            proxy.allow(if is_parted { Traffic::None } else { Traffic::All });
        }
    }

    /// A number from the database, once it answers.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        loop {
            match sqlx::query_scalar(sql).fetch_one(&self.database).await {
                Ok(count) => return count,
                Err(sqlx::Error::Database(error))
                    if error.code().is_none_or(|code| !code.starts_with("57P")) =>
                {
                    panic!("{sql}: {error}")
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Links {
    async fn start(stack: &Stack) -> Self {
        let addresses = stack.addresses();
        let (mut zookeeper, mut rabbitmq, mut postgres) = (Vec::new(), Vec::new(), None);
        for (name, address) in &addresses.servers {
            let proxy = TcpProxy::start(address).await;
            match name.as_str() {
                "postgres" => postgres = Some(proxy),
                name if name.starts_with("zookeeper") => zookeeper.push(proxy),
                _ => rabbitmq.push(proxy),
            }
        }
        Self { postgres: postgres.unwrap(), zookeeper, rabbitmq }
    }

    fn settings(&self, stack: &Stack) -> Vec<(String, String)> {
        let addresses = stack.addresses();
        let joined = |proxies: &[TcpProxy], url: &dyn Fn(String) -> String| {
            proxies.iter().map(|proxy| url(proxy.address())).collect::<Vec<_>>().join(",")
        };
        let postgres = addresses.postgres_url.as_ref().unwrap();
        let postgres = postgres.replace(&addresses.servers["postgres"], &self.postgres.address());
        let amqp = |address: String| format!("amqp://holdfast:holdfast@{address}/%2f");
        vec![
            ("HOLDFAST__DATABASE__URL".to_owned(), postgres),
            ("HOLDFAST__LOCK__ZOOKEEPER__SERVERS".to_owned(), joined(&self.zookeeper, &|address| address)),
            ("HOLDFAST__BUS__RABBITMQ__URL".to_owned(), joined(&self.rabbitmq, &amqp)),
        ]
    }
}

/// Where what is left of a soak goes.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak")
}

/// Below the kernel's ephemeral ports and those of the servers, so that nobody takes it while its owner is down.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..20_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
