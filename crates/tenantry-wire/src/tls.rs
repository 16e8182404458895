//! Encryption with the server verified.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Error;

/// Asks the server for encryption and verifies its certificate and name.
///
/// Exactly one byte is read before the handshake: anything a man in the middle put behind it is read by TLS, and fails
/// there, instead of being taken for the server's answer (CVE-2021-23222).
pub(crate) async fn wrap(mut stream: TcpStream, host: &str, roots_pem: &str) -> Result<TlsStream<TcpStream>, Error> {
    let connector = TlsConnector::from(Arc::new(config(roots_pem)?));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Error::Tls(error.to_string()))?;

    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    if stream.read_u8().await? != b'S' {
        return Err(Error::Tls("the server does not offer encryption".to_owned()));
    }
    connector
        .connect(name, stream)
        .await
        .map_err(|error| Error::Tls(error.to_string()))
}

fn config(roots_pem: &str) -> Result<ClientConfig, Error> {
    let bad = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots
            .add(certificate.map_err(|error| bad(&error))?)
            .map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(Error::Tls("the accepted authorities hold no certificate".to_owned()));
    }
    // Named here instead of the process default: a library must not depend on what `main` installed.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
