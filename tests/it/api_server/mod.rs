//! The HTTP server by itself: what it does with clients that are slow, many, wrong or hostile.

mod capacity;
mod contract;
mod drain;
mod limits;
mod logs;
mod metrics;
mod smuggling;
mod time;
mod tls;

use std::net::SocketAddr;

use holdfast::{config::Http, http};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{self, PATIENCE, app::TestApp, eventually, raw_http::RawHttp, setup};

/// An API with settings of its own.
struct Served {
    test: TestApp,
    address: SocketAddr,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Served {
    /// With time-outs that no test here meets by accident, and otherwise the settings of the tests.
    async fn start(change: impl FnOnce(&mut Http)) -> Self {
        let test = TestApp::start().await;
        // Before anything is served that has little room.
        support::contract::document(&format!("http://{}", test.api.address())).await;
        let mut settings = setup::settings().http;
        for time in [
            &mut settings.header_timeout_ms,
            &mut settings.idle_timeout_ms,
            &mut settings.body_timeout_ms,
            &mut settings.write_timeout_ms,
        ] {
            *time = 600_000;
        }
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let api = http::api(test.app.clone(), &settings, String::new(), shutdown.clone()).unwrap();
        let server = tokio::spawn(api.serve(listener));
        Self { test, address, shutdown, server }
    }

    async fn connect(&self) -> RawHttp {
        RawHttp::connect(self.address).await
    }

    /// A write with the key, whose body is to follow: stock of SKU `sku`.
    fn put(&self, sku: &str, headers: &str) -> String {
        let key = self.test.api.authorization();
        format!(
            "PUT /v1/inventory/{sku}/main HTTP/1.1\r\nHost: api\r\nAuthorization: {key}\r\n\
             Content-Type: application/json\r\n{headers}\r\n\r\n"
        )
    }

    /// A stock file with the key, whose body is to follow.
    fn post_file(&self, headers: &str) -> String {
        let key = self.test.api.authorization();
        format!(
            "POST /v1/inventory/imports?mode=set HTTP/1.1\r\nHost: api\r\nAuthorization: {key}\r\n\
             Idempotency-Key: file\r\nContent-Type: text/csv\r\n{headers}\r\n\r\n"
        )
    }

    /// A whole such write.
    fn whole_put(&self, sku: &str) -> String {
        format!("{}{BODY}", self.put(sku, &format!("Content-Length: {}", BODY.len())))
    }

    /// How many SKUs have stock.
    async fn levels(&self) -> i64 {
        self.test.count("SELECT count(*) FROM inventory_level").await
    }

    async fn finish(self) {
        self.shutdown.cancel();
        self.server.await.unwrap();
        self.test.finish().await;
    }
}

/// The body of a write of stock.
const BODY: &str = r#"{"on_hand":7}"#;

/// A request that needs no key.
const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: api\r\n\r\n";

/// As many clients as there is room for, and last the one that is told that it is too many.
async fn connect_until_refused(address: SocketAddr) -> Vec<RawHttp> {
    let mut clients = Vec::new();
    let is_full = async || {
        let mut client = RawHttp::connect(address).await;
        client.send(LIVEZ).await;
        let refused = client.answer().await.status == 503;
        clients.push(client);
        refused
    };
    eventually("there are too many connections", PATIENCE, is_full).await;
    clients
}
