//! TLS: certificate and key, read once at start. TLS 1.2 and 1.3, by rustls with ring.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {file}: {reason}")]
pub struct TlsError {
    setting: &'static str,
    file: String,
    reason: String,
}

/// What turns a TCP connection into one over TLS.
#[derive(Clone)]
pub(super) struct Tls(TlsAcceptor);

impl Tls {
    /// `None` where no files are configured.
    pub(super) fn load(settings: &config::Tls) -> Result<Option<Self>, TlsError> {
        if settings.certificate_file.is_empty() {
            return Ok(None);
        }
        let of_certificate = |reason: String| TlsError {
            setting: "http.tls.certificate_file",
            file: settings.certificate_file.clone(),
            reason,
        };
        let of_key = |reason: String| TlsError {
            setting: "http.tls.private_key_file",
            file: settings.private_key_file.clone(),
            reason,
        };
        let chain = read_chain(Path::new(&settings.certificate_file)).map_err(of_certificate)?;
        let key = PrivateKeyDer::from_pem_file(&settings.private_key_file).map_err(|e| of_key(explain(e)))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| of_certificate(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InvalidCertificate(_) => of_certificate(error.to_string()),
                _ => of_key(format!("does not fit the certificate, or is not a key: {error}")),
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self(TlsAcceptor::from(Arc::new(config)))))
    }

    /// Does the handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(explain)?.collect();
    let chain = chain.map_err(explain)?;
    if chain.is_empty() { Err("has no certificate in PEM".into()) } else { Ok(chain) }
}

fn explain(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => "has no private key in PEM".into(),
        error => format!("is not PEM: {error:?}"),
    }
}
