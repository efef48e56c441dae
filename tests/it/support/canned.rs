//! A server that treats every connection the same way, well or badly.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What to do after the request's headers have come.
#[derive(Clone)]
pub(crate) enum Canned {
    /// Send these bytes and close.
    Send(String),
    /// Say nothing, and keep the connection open.
    Nothing,
}

impl Canned {
    /// A whole HTTP answer.
    pub(crate) fn answer(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::Send(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    /// Serves for the rest of the test; gives its address.
    pub(crate) async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let canned = self.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    let _ = connection.read(&mut buffer).await;
                    match canned {
                        Self::Send(bytes) => {
                            let _ = connection.write_all(bytes.as_bytes()).await;
                        }
                        Self::Nothing => tokio::time::sleep(Duration::from_mins(10)).await,
                    }
                });
            }
        });
        address
    }
}
