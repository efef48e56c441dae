//! A TCP proxy on loopback that can go silent in one or both directions, and cut what is connected.
//!
//! Silent means stalled: bytes stay where they are and flow again afterwards, unless the connection is cut first.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Which bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    All,
    /// Requests arrive, answers do not.
    RequestsOnly,
    None,
}

/// Forwards until dropped.
#[derive(Debug)]
pub(crate) struct TcpProxy {
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    /// Of the connections that are open now.
    cut: std::sync::Arc<Mutex<CancellationToken>>,
    accept: JoinHandle<()>,
}

impl TcpProxy {
    /// Hangs up at once when nobody listens at the target.
    pub(crate) async fn start(target: &str) -> Self {
        Self::start_patient(target, Duration::ZERO).await
    }

    /// Waits for so long until somebody listens at the target.
    pub(crate) async fn start_patient(target: &str, patience: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (traffic, flow) = watch::channel(Traffic::All);
        let cut = std::sync::Arc::new(Mutex::new(CancellationToken::new()));
        let (target, current) = (target.to_owned(), cut.clone());
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = current.lock().unwrap().clone();
                let server = connect(target.clone(), patience);
                tokio::spawn(forward(client, server, flow.clone(), cut));
            }
        });
        Self { address, traffic, cut, accept }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn allow(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    /// Closes every open connection. New ones are accepted.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.cut();
    }
}

async fn connect(target: String, patience: Duration) -> Option<TcpStream> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpStream::connect(&target).await {
            Ok(server) => return Some(server),
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(20)).await,
            Err(_) => return None,
        }
    }
}

async fn forward(
    client: TcpStream,
    server: impl Future<Output = Option<TcpStream>>,
    flow: watch::Receiver<Traffic>,
    cut: CancellationToken,
) {
    let Some(server) = server.await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        // First: what was stalled must not slip through when traffic is allowed again right after the cut.
        biased;
        () = cut.cancelled() => {}
        () = pump(from_client, to_server, flow.clone(), |traffic| traffic != Traffic::None) => {}
        () = pump(from_server, to_client, flow, |traffic| traffic == Traffic::All) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Traffic>,
    passes: fn(Traffic) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if flow.wait_for(|traffic| passes(*traffic)).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
