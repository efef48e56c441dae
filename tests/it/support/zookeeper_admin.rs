//! What an operator may ask and do at a ZooKeeper server, past the locks: its state, its sessions, their end.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What the server draws the passwords of its sessions from, unless it is configured otherwise.
const SECRET: i64 = 0xB341_5C00;
const CLOSE_SESSION: i32 = -11;

/// The answer to one of the four-letter commands; empty from a server that does not run.
pub(crate) async fn ask(server: &str, command: &str) -> String {
    let mut answer = String::new();
    let Ok(mut stream) = TcpStream::connect(server).await else { return answer };
    if stream.write_all(command.as_bytes()).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
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
    let mut stream = TcpStream::connect(server).await.unwrap();
    // Protocol version, last zxid seen, time-out, session, password, not read-only.
    let mut request = vec![0; 12];
    request.extend(10_000_i32.to_be_bytes());
    request.extend(session.to_be_bytes());
    request.extend(16_i32.to_be_bytes());
    request.extend(password(session));
    request.push(0);
    let answer = call(&mut stream, &request).await;
    // Protocol version and the time-out that was agreed on: zero when the session is not to be had.
    assert!(answer[4..8] != [0; 4], "the session was refused");
    assert_eq!(answer[8..16], session.to_be_bytes());
    let close = [1_i32.to_be_bytes(), CLOSE_SESSION.to_be_bytes()].concat();
    call(&mut stream, &close).await;
}

/// Sends one frame and reads one.
async fn call(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    let length = i32::try_from(request.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, request].concat()).await.unwrap();
    let mut answer = vec![0; usize::try_from(stream.read_i32().await.unwrap()).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
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
