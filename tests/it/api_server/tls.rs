//! TLS of the API.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use holdfast::config::Tls;
use reqwest::Certificate;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsConnector, client::TlsStream};
use uuid::Uuid;

use super::{LIVEZ, Served};
use crate::support::{
    raw_http::RawHttp,
    stack,
    system::{Servers, System},
};

/// A certificate of 127.0.0.1 that signs itself, and its key, in files.
struct Identity {
    certificate: String,
    settings: Tls,
}

impl Identity {
    fn create() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let settings = Tls {
            certificate_file: file("certificate", &certificate),
            private_key_file: file("key", &made.signing_key.serialize_pem()),
        };
        Self { certificate, settings }
    }

    /// Connects as a client that trusts this certificate alone.
    async fn connect(
        &self,
        served: &Served,
        versions: &[&'static SupportedProtocolVersion],
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(served.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// A file with this content, which goes with the servers of the tests.
fn file(name: &str, content: &str) -> String {
    let path: PathBuf = stack::shared().dir().join(format!("{name}-{}.pem", Uuid::now_v7().simple()));
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_is_served_over_tls() {
    let identity = Identity::create();
    let served = Served::start(|settings| settings.tls = identity.settings.clone()).await;
    holdfast::provider::install_crypto_provider();
    let root = Certificate::from_pem(identity.certificate.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().https_only(true);
    let trusting = client.tls_certs_only([root]).build().unwrap();
    let url = format!("https://{}/livez", served.address);
    let answer = trusting.get(&url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"status":"ok"}"#);

    let other = Certificate::from_pem(Identity::create().certificate.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([other]).build().unwrap();
    assert!(client.get(&url).send().await.unwrap_err().is_connect());
    served.finish().await;
}

#[tokio::test]
async fn both_versions_of_tls_speak_http_1_with_all_its_limits() {
    let identity = Identity::create();
    let served = Served::start(|settings| {
        settings.tls = identity.settings.clone();
        settings.max_connections = 1;
    })
    .await;
    for version in [&TLS12, &TLS13] {
        let mut client = RawHttp::over(identity.connect(&served, &[version], b"http/1.1").await.unwrap());
        client.send(LIVEZ).await;
        assert_eq!(client.answer().await.status, 200);
        let mut other = RawHttp::over(identity.connect(&served, &[version], b"http/1.1").await.unwrap());
        other.send(LIVEZ).await;
        other.ends_with_answer().await.problem(503, "too_many_connections");
        client.send(served.put("a", "Content-Length: 1\r\nTransfer-Encoding: chunked")).await;
        client.ends_with_answer().await.problem(400, "malformed_request");
    }
    assert!(identity.connect(&served, &[&TLS13], b"h2").await.is_err());
    served.finish().await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_closed_and_disturbs_nobody() {
    let identity = Identity::create();
    let limit = Duration::from_secs(1);
    let served = Served::start(|settings| {
        settings.tls = identity.settings.clone();
        settings.header_timeout_ms = 1_000;
    })
    .await;
    let mut plain = served.connect().await;
    plain.send(LIVEZ).await;
    let (answer, _) = plain.rest().await;
    assert!(!answer.contains("HTTP"), "{answer:?}");

    let begun = Instant::now();
    assert_eq!(served.connect().await.rest().await.0, "");
    assert!((limit..20 * limit).contains(&begun.elapsed()), "{:?}", begun.elapsed());

    let mut client = RawHttp::over(identity.connect(&served, &[&TLS13], b"http/1.1").await.unwrap());
    client.send(LIVEZ).await;
    assert_eq!(client.answer().await.status, 200);
    served.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let good = Identity::create().settings;
    let other = Identity::create().settings;
    let missing = || file("gone", "").replace("gone-", "missing-");
    let not_pem = file("text", "-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n");
    let (certificate, key) = ("http.tls.certificate_file", "http.tls.private_key_file");
    let system = System::start(Servers::Neither, &[]).await;
    for (certificate_file, private_key_file, setting, reason) in [
        (missing(), good.private_key_file.clone(), certificate, "cannot be read"),
        (good.certificate_file.clone(), missing(), key, "cannot be read"),
        (file("empty", ""), good.private_key_file.clone(), certificate, "has no certificate in PEM"),
        (not_pem.clone(), good.private_key_file.clone(), certificate, "is not PEM"),
        (good.certificate_file.clone(), file("empty", ""), key, "has no private key in PEM"),
        (good.certificate_file.clone(), other.private_key_file.clone(), key, "does not fit the certificate"),
        (good.private_key_file.clone(), good.private_key_file.clone(), certificate, "has no certificate"),
        (good.certificate_file.clone(), good.certificate_file.clone(), key, "has no private key"),
    ] {
        let files = [
            ("HOLDFAST__HTTP__TLS__CERTIFICATE_FILE", certificate_file.as_str()),
            ("HOLDFAST__HTTP__TLS__PRIVATE_KEY_FILE", private_key_file.as_str()),
        ];
        let before = system.log("tls").len();
        system.spawn("tls", &["api"], &files);
        let ended = system.finish("tls", crate::support::PATIENCE).await;
        let wrong = if setting == key { &private_key_file } else { &certificate_file };
        let output = &ended.output[before..];
        assert!(!ended.success, "{output}");
        assert!(output.contains(&format!("{setting} = {wrong}: {reason}")), "{output}");
        assert!(!output.contains("listening"), "{output}");
    }
}
