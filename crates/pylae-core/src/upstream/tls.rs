// SPDX-License-Identifier: Apache-2.0
//! TLS with upstreams: the handshake, whether the certificate is checked, and OpenSSL's words for what went wrong.

use crate::fault::{Fault, FaultKind};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::cell::OnceCell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

/// Client configurations of one worker, made on first use.
pub struct UpstreamTls {
    bundles: Vec<PathBuf>,
    unverified: OnceCell<Arc<ClientConfig>>,
    verified: OnceCell<Arc<ClientConfig>>,
}

impl UpstreamTls {
    /// `bundles`: PEM files of the certificates to trust; none: the public roots.
    pub fn new(bundles: Vec<PathBuf>) -> Self {
        UpstreamTls { bundles, unverified: OnceCell::new(), verified: OnceCell::new() }
    }

    fn config(&self, verify: bool) -> Arc<ClientConfig> {
        let cell = if verify { &self.verified } else { &self.unverified };
        Arc::clone(cell.get_or_init(|| {
            let provider = provider();
            let verifier: Arc<dyn ServerCertVerifier> = if verify {
                Arc::new(Explaining { inner: self.roots(&provider), provider: Arc::clone(&provider) })
            } else {
                Arc::new(Unverified { provider: Arc::clone(&provider) })
            };
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring offers the default versions")
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        }))
    }

    fn roots(&self, provider: &Arc<CryptoProvider>) -> Arc<WebPkiServerVerifier> {
        let mut store = RootCertStore::empty();
        for bundle in &self.bundles {
            if let Ok(certificates) = CertificateDer::pem_file_iter(bundle) {
                store.add_parsable_certificates(certificates.filter_map(Result::ok));
            }
        }
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build().expect("the store is not empty")
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `UpstreamTlsFailed`, `UpstreamCertificateRejected`, with OpenSSL's words.
    pub async fn handshake(&self, stream: TcpStream, name: &str, verify: bool) -> Result<TlsStream<TcpStream>, Fault> {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let server = ServerName::try_from(bare.to_owned()).map_err(|_| {
            Fault::with_phrase(
                FaultKind::UpstreamTlsFailed,
                format!("`{name}` is no server name"),
                "SSL_do_handshake() failed (invalid server name)".into(),
            )
        })?;
        match TlsConnector::from(self.config(verify)).connect(server, stream).await {
            Ok(stream) => Ok(TlsStream::Client(stream)),
            Err(error) => Err(handshake_fault(&error)),
        }
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    thread_local! {
        static PROVIDER: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    }
    PROVIDER.with(Arc::clone)
}

fn handshake_fault(error: &io::Error) -> Fault {
    let failed = |text: &str| {
        Fault::with_phrase(FaultKind::UpstreamTlsFailed, error.to_string(), format!("SSL_do_handshake() failed (SSL: {text})"))
    };
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::with_phrase(
                FaultKind::UpstreamTlsFailed,
                "the peer closed the connection in the handshake",
                "peer closed connection in SSL handshake".into(),
            ),
            _ => Fault::with_phrase(
                FaultKind::UpstreamTlsFailed,
                error.to_string(),
                format!("peer closed connection in SSL handshake ({})", super::errno_text(error)),
            ),
        };
    };
    match tls {
        rustls::Error::InvalidMessage(_) => failed("error:0A00010B:SSL routines::wrong version number"),
        rustls::Error::AlertReceived(alert) => failed(&format!("error:0A000410:SSL routines::alert {alert:?}")),
        rustls::Error::PeerIncompatible(_) => failed("error:0A000102:SSL routines::unsupported protocol"),
        rustls::Error::Other(other) => match other.0.downcast_ref::<NotTrusted>() {
            Some(why) => Fault::with_phrase(
                FaultKind::UpstreamCertificateRejected,
                why.to_string(),
                format!("upstream SSL certificate verify error: ({why})"),
            ),
            None => failed(&other.to_string()),
        },
        other => failed(&other.to_string()),
    }
}

/// OpenSSL's number and words for why a certificate is not trusted.
#[derive(Debug)]
struct NotTrusted(u32, &'static str);

impl std::fmt::Display for NotTrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl std::error::Error for NotTrusted {}

/// Checks, and says why not in the words people search for.
#[derive(Debug)]
struct Explaining {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now).map_err(|error| {
            let why = match &error {
                rustls::Error::InvalidCertificate(why) => match why {
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => NotTrusted(10, "certificate has expired"),
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        NotTrusted(9, "certificate is not yet valid")
                    }
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        NotTrusted(62, "hostname mismatch")
                    }
                    CertificateError::Revoked => NotTrusted(23, "certificate revoked"),
                    _ if is_self_signed(end_entity) => NotTrusted(18, "self-signed certificate"),
                    CertificateError::UnknownIssuer if !intermediates.is_empty() => {
                        NotTrusted(19, "self-signed certificate in certificate chain")
                    }
                    _ => NotTrusted(20, "unable to get local issuer certificate"),
                },
                _ => NotTrusted(20, "unable to get local issuer certificate"),
            };
            rustls::Error::Other(rustls::OtherError(Arc::new(why)))
        })
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(m, c, d, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(m, c, d, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Kong's default: the connection is encrypted, the peer is not checked (`tls_verify` null or false).
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(m, c, d, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(m, c, d, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Are issuer and subject of this certificate the same name? (RFC 5280 §4.1)
fn is_self_signed(certificate: &[u8]) -> bool {
    fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (&tag, rest) = bytes.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            if count > 4 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            (digits.iter().fold(0, |sum, &b| sum << 8 | usize::from(b)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((tag, content, rest))
    }
    fn names(certificate: &[u8]) -> Option<bool> {
        let (_, certificate, _) = element(certificate)?;
        let (_, tbs, _) = element(certificate)?;
        let (tag, _, after) = element(tbs)?;
        let rest = if tag == 0xa0 { element(after)?.2 } else { after };
        let (_, _, rest) = element(rest)?;
        let (_, issuer, rest) = element(rest)?;
        let (_, _, rest) = element(rest)?;
        let (_, subject, _) = element(rest)?;
        Some(issuer == subject)
    }
    names(certificate).unwrap_or(false)
}
