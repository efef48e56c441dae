//! Measures whether clients that hold connections and say nothing, or drip their headers, make the others slower: the
//! latency of orders with nobody else there, beside that with thousands of such clients.
//!
//! `cargo build --release && cargo run --release --example idle_connections [IDLE [SLOW [MILLISECONDS]]]`, on private servers.
//! Each round measures both, for so long each; the last line holds the medians.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the measurement")]

use std::{
    env, fs,
    net::{SocketAddr, TcpListener as Probe},
    path::Path,
    time::{Duration, Instant},
};

use devstack::{Stack, StackOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 5;
/// Clients that place orders.
const CLIENTS: usize = 8;
/// How often a slow client sends a byte of its headers.
const DRIP: Duration = Duration::from_millis(100);
/// How many connections are being opened at a time.
const OPENING: usize = 64;

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: api\r\n\r\n";

fn main() {
    let count = |at: usize, default: usize| env::args().nth(at).map_or(default, |text| text.parse().unwrap());
    let (idle, slow) = (count(1, 10_000), count(2, 300));
    let measured = Duration::from_millis(count(3, 5_000) as u64);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let options = StackOptions { zookeeper_nodes: 0, rabbitmq_nodes: 0, ..StackOptions::default() };
    let stack = Stack::start(options).unwrap();
    let (address, key) = start_api(&stack, idle + slow + 100);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(rounds(address, &key, idle, slow, measured));
}

async fn rounds(address: SocketAddr, key: &str, idle: usize, slow: usize, measured: Duration) {
    measure(address, key, measured).await;
    let (mut quiet, mut loaded) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        quiet.push(measure(address, key, measured).await);
        let stop = CancellationToken::new();
        let mut others = JoinSet::new();
        for _ in 0..slow {
            others.spawn(stop.clone().run_until_cancelled_owned(drip(address)));
        }
        let held = open(address, idle).await;
        loaded.push(measure(address, key, measured).await);
        let still_open = held.iter().filter(|stream| is_open(stream)).count();
        println!(
            "round {round}: quiet {}, with {still_open} idle and {slow} slow clients {}",
            quiet[round - 1].show(),
            loaded[round - 1].show()
        );
        assert_eq!(still_open, idle, "the idle connections were not held");
        stop.cancel();
        while others.join_next().await.is_some() {}
    }
    let (quiet, loaded) = (median_p99(&quiet), median_p99(&loaded));
    let ratio = loaded.as_secs_f64() / quiet.as_secs_f64();
    println!("median p99: quiet {quiet:.2?}, loaded {loaded:.2?}, ratio {ratio:.2}");
}

/// Migrates, makes a key and stock, and starts an API with room for so many clients.
fn start_api(stack: &Stack, connections: usize) -> (SocketAddr, String) {
    let binary = env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().join("holdfast");
    assert!(binary.exists(), "{} is missing: cargo build", binary.display());
    let mut environment = stack.environment();
    let address = Probe::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (name, value) in [
        ("HOLDFAST__LOCK__BACKEND", "none".to_owned()),
        ("HOLDFAST__HTTP__BIND", address.to_string()),
        ("HOLDFAST__HTTP__MAX_CONNECTIONS", connections.to_string()),
        ("HOLDFAST__HTTP__RATE_LIMIT__REQUESTS_PER_SECOND", "0".to_owned()),
    ] {
        environment.push((name.to_owned(), value));
    }
    let stock = stack.dir().join("stock.csv");
    fs::write(&stock, "sku,on_hand\na,900000000\n").unwrap();
    let run = |name: &str, args: &[&str]| {
        stack.spawn(name, &binary, args, &environment).unwrap();
        let ended = stack.wait_exit(name, Duration::from_mins(1)).unwrap();
        let output = fs::read_to_string(stack.log_file(name)).unwrap();
        assert!(ended.success(), "{output}");
        output
    };
    run("migrate", &["migrate"]);
    run("stock", &["stock", "import", stock.to_str().unwrap()]);
    let output = run("keys", &["keys", "create", "--name", "idle", "--scopes", "orders:write"]);
    let key = output.lines().find(|line| line.starts_with("hf_")).unwrap().to_owned();
    stack.spawn("api", &binary, &["api"], &environment).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "the API does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    (address, key)
}

/// How long orders took.
struct Latency(Vec<Duration>);

impl Latency {
    fn at(&self, share: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (self.0.len() as f64 * share) as usize;
        self.0[at.min(self.0.len() - 1)]
    }

    fn show(&self) -> String {
        format!("p50 {:.2?} p99 {:.2?} ({} orders)", self.at(0.5), self.at(0.99), self.0.len())
    }
}

fn median_p99(latencies: &[Latency]) -> Duration {
    let mut p99: Vec<_> = latencies.iter().map(|latency| latency.at(0.99)).collect();
    p99.sort();
    p99[p99.len() / 2]
}

/// Places orders for a while, each client one after the other.
async fn measure(address: SocketAddr, key: &str, measured: Duration) -> Latency {
    let until = Instant::now() + measured;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let key = key.to_owned();
        clients.spawn(async move {
            let mut stream = connect(address).await;
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let request = order(&key, client, begun);
                assert!(exchange(&mut stream, request.as_bytes()).await.starts_with(b"HTTP/1.1 201"));
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took = clients.join_all().await.concat();
    took.sort();
    Latency(took)
}

fn order(key: &str, client: usize, begun: Instant) -> String {
    let body = r#"{"currency":"USD","lines":[{"sku":"a","quantity":1,"unit_amount":1000}]}"#;
    format!(
        "POST /v1/orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: {client}-{}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        format!("{begun:?}").replace(|c: char| !c.is_ascii_digit(), "-"),
        body.len()
    )
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request and reads its answer, which comes at once or in few pieces.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::with_capacity(4096);
    loop {
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "closed: {}",
            String::from_utf8_lossy(&answer)
        );
        let text = str::from_utf8(&answer).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse().unwrap() {
            return answer;
        }
    }
}

/// Opens connections that have made one request and then say nothing.
async fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut openers = JoinSet::new();
    for opener in 0..OPENING {
        let share = count / OPENING + usize::from(opener < count % OPENING);
        openers.spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..share {
                let mut stream = connect(address).await;
                exchange(&mut stream, LIVEZ).await;
                streams.push(stream);
            }
            streams
        });
    }
    openers.join_all().await.into_iter().flatten().collect()
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Begins requests and never ends one, on a new connection whenever the server has had enough.
async fn drip(address: SocketAddr) {
    loop {
        let mut stream = connect(address).await;
        let endless = b"GET /livez HTTP/1.1\r\nHost: api\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
        for byte in endless {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(DRIP).await;
        }
    }
}
