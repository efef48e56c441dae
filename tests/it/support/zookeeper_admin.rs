//! What an operator may ask and do at a ZooKeeper server, past the locks: its state, its sessions, their end.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, eventually};

/// What the server draws the passwords of its sessions from, unless it is configured otherwise.
const SECRET: i64 = 0xB341_5C00;
const CLOSE_SESSION: i32 = -11;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The answer to one of the four-letter commands; empty from a server that does not run.
pub(crate) async fn ask(server: &str, command: &str) -> String {
    let mut answer = String::new();
    let Ok(mut stream) = TcpStream::connect(server).await else { return answer };
    if stream.write_all(command.as_bytes()).await.is_ok() {
        let _ = timeout(ANSWER_WITHIN, stream.read_to_string(&mut answer)).await;
    }
    answer
}

/// `leader`, `follower` or `standalone`; empty while the server does not serve.
pub(crate) async fn mode(server: &str) -> String {
    let answer = ask(server, "srvr").await;
    answer.lines().find_map(|line| line.strip_prefix("Mode: ")).unwrap_or_default().to_owned()
}

/// Whether the server knows this session.
pub(crate) async fn knows_session(server: &str, session: i64) -> bool {
    ask(server, "dump").await.contains(&format!("0x{session:x}"))
}

/// Ends a session behind its owner's back: takes it over with its id and password, as any client may that knows them, and
/// closes it.
pub(crate) async fn end_session(server: &str, session: i64) {
    // Protocol version, last zxid seen, time-out, session, password, not read-only.
    let mut connect = vec![0; 12];
    connect.extend(10_000_i32.to_be_bytes());
    connect.extend(session.to_be_bytes());
    connect.extend(16_i32.to_be_bytes());
    connect.extend(password(session));
    connect.push(0);
    let close = [1_i32.to_be_bytes(), CLOSE_SESSION.to_be_bytes()].concat();
    let requests = [frame(&connect), frame(&close)].concat();
    let ended = async || {
        // Both at once: the owner loses its connection to the first, and takes the session back when it can.
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(&requests).await.unwrap();
        // The server closes the connection, but not when the owner was back before it had closed the session.
        let _ = timeout(ANSWER_WITHIN, stream.read_to_end(&mut Vec::new())).await;
        !knows_session(server, session).await
    };
    eventually("the session is over", PATIENCE, ended).await;
}

fn frame(request: &[u8]) -> Vec<u8> {
    [&i32::try_from(request.len()).unwrap().to_be_bytes(), request].concat()
}

/// The server computes it with Java's random numbers, seeded by the session and its secret.
fn password(session: i64) -> Vec<u8> {
    const MULTIPLIER: i64 = 0x0005_DEEC_E66D;
    const MASK: i64 = (1 << 48) - 1;
    let mut seed = (session ^ SECRET ^ MULTIPLIER) & MASK;
    let numbers = (0..4).flat_map(|_| {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        // The upper 32 of its 48 bits.
        (seed >> 16).to_le_bytes().into_iter().take(4)
    });
    numbers.collect()
}
