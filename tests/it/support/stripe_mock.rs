//! Stripe's own mock server on a free port, for the length of a test: it refuses what Stripe's OpenAPI description does not
//! allow, keeps no state, and answers with examples.

use std::{path::Path, process::Command};

use devstack::{Stack, StackOptions};

use super::{PATIENCE, eventually, sandbox::http_client, system::free_port};

/// A key as the mock wants it.
pub(crate) const KEY: &str = "sk_test_123";

pub(crate) struct StripeMock {
    pub(crate) url: String,
    /// Ends the server with the test.
    _stack: Stack,
}

impl StripeMock {
    pub(crate) async fn start() -> Self {
        let program = tokio::task::block_in_place(build);
        let options = StackOptions {
            zookeeper_nodes: 0,
            rabbitmq_nodes: 0,
            postgres: false,
            ..StackOptions::default()
        };
        let stack = tokio::task::block_in_place(|| Stack::start(options)).unwrap();
        let (http, https) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let arguments = ["-http-addr", &http, "-https-addr", &https];
        stack.spawn("stripe-mock", Path::new(&program), &arguments, &[]).unwrap();
        let url = format!("http://{http}");
        let client = http_client();
        let answers = async || client.get(&url).send().await.is_ok();
        eventually("stripe-mock answers", PATIENCE, answers).await;
        Self { url, _stack: stack }
    }
}

/// Gives the path of the program.
fn build() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("devstack/stripe-mock.sh");
    let output = Command::new(script).output().unwrap();
    let (path, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "stripe-mock cannot be built: {log}");
    path.trim().to_owned()
}
