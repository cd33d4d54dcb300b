//! TLS below Diameter (RFC 6733 §13.1), always mutual: rustls with ring.

use super::link::Io;
use tokio::net::TcpStream;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading PEM: {0}")]
    Pem(String),
    #[error("certificate, key and authorities do not make a TLS configuration: {0}")]
    Material(String),
    #[error("built without the feature `tls`")]
    NotBuilt,
}

#[cfg(feature = "tls")]
pub use with_rustls::Tls;
#[cfg(not(feature = "tls"))]
pub use without::Tls;

#[cfg(feature = "tls")]
mod with_rustls {
    use super::{Io, TcpStream, TlsError};
    use std::io::{Error, ErrorKind};
    use std::sync::Arc;
    use tokio_rustls::rustls::client::verify_server_name;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// Our certificate and whom we believe, for both directions.
    #[derive(Clone)]
    pub struct Tls {
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    }

    impl std::fmt::Debug for Tls {
        /// Without the key.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Tls")
        }
    }

    fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|e| TlsError::Pem(e.to_string()))
    }

    fn material(error: impl std::fmt::Display) -> TlsError {
        TlsError::Material(error.to_string())
    }

    impl Tls {
        /// From PEM: our chain, its key, the authorities that sign peers.
        ///
        /// # Errors
        /// PEM that cannot be read, or parts that do not fit together.
        pub fn from_pem(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Tls, TlsError> {
            let chain = certificates(chain)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Pem(e.to_string()))?;
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities)? {
                roots.add(authority).map_err(material)?;
            }
            let provider = Arc::new(ring::default_provider());
            let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(material)?
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(material)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(material)?;
            let server = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(material)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
                .map_err(material)?;
            Ok(Tls { client: Arc::new(client), server: Arc::new(server) })
        }

        /// Server side; says which of the names the client's certificate holds.
        pub(crate) async fn accept(
            self,
            stream: TcpStream,
            names: &[(usize, String)],
        ) -> std::io::Result<(Box<dyn Io>, Vec<usize>)> {
            let stream = TlsAcceptor::from(self.server).accept(stream).await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let leaf = chain.first().ok_or_else(|| Error::new(ErrorKind::InvalidData, "no certificate"))?;
            let leaf =
                ParsedCertificate::try_from(leaf).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
            let holds = |host: &str| {
                ServerName::try_from(host).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
            };
            let proven = names.iter().filter(|(_, host)| holds(host)).map(|(at, _)| *at).collect();
            Ok((Box::new(stream), proven))
        }

        /// Client side; the server's certificate must hold the peer's name.
        pub(crate) async fn connect(self, stream: TcpStream, host: &str) -> std::io::Result<Box<dyn Io>> {
            let name =
                ServerName::try_from(host.to_owned()).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
            let stream = TlsConnector::from(self.client).connect(name, stream).await?;
            Ok(Box::new(stream))
        }
    }
}

#[cfg(not(feature = "tls"))]
mod without {
    use super::{Io, TcpStream, TlsError};

    /// Nobody can have one in this build.
    #[derive(Clone, Debug)]
    pub enum Tls {}

    impl Tls {
        /// # Errors
        /// Always: this build has no TLS.
        pub fn from_pem(_chain: &[u8], _key: &[u8], _authorities: &[u8]) -> Result<Tls, TlsError> {
            Err(TlsError::NotBuilt)
        }

        pub(crate) async fn accept(
            self,
            _stream: TcpStream,
            _names: &[(usize, String)],
        ) -> std::io::Result<(Box<dyn Io>, Vec<usize>)> {
            match self {}
        }

        pub(crate) async fn connect(self, _stream: TcpStream, _host: &str) -> std::io::Result<Box<dyn Io>> {
            match self {}
        }
    }
}
