// SPDX-License-Identifier: Apache-2.0
//! TLS with upstreams: is the certificate checked, against which roots? Says why one is not trusted in the words people search for.

use super::certificate::is_self_signed;
use super::handshake::{Evidence, NoCertificate, NotTrusted, saw_certificate, shake_hands};
use crate::fault::Fault;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

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
                .with_client_cert_resolver(Arc::new(NoCertificate));
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
    /// `UpstreamTlsFailed`, `UpstreamCertificateRejected`, `UpstreamWantsCertificate`, with OpenSSL's words.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        name: &str,
        verify: bool,
        evidence: &mut Evidence,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        shake_hands(self.config(verify), stream, name, verify, evidence).await.map(TlsStream::Client)
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    thread_local! {
        static PROVIDER: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    }
    PROVIDER.with(Arc::clone)
}

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
        let outcome = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        saw_certificate(end_entity, outcome.as_ref().err().map(|error| why_not(error, end_entity, intermediates)));
        outcome
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

/// Why a certificate is not trusted, as OpenSSL puts it.
fn why_not(error: &rustls::Error, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> NotTrusted {
    let rustls::Error::InvalidCertificate(why) = error else { return NotTrusted(20, "unable to get local issuer certificate") };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => NotTrusted(10, "certificate has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => NotTrusted(9, "certificate is not yet valid"),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => NotTrusted(62, "hostname mismatch"),
        CertificateError::Revoked => NotTrusted(23, "certificate revoked"),
        _ if is_self_signed(end_entity) => NotTrusted(18, "self-signed certificate"),
        CertificateError::UnknownIssuer if !intermediates.is_empty() => NotTrusted(19, "self-signed certificate in certificate chain"),
        _ => NotTrusted(20, "unable to get local issuer certificate"),
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
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        saw_certificate(end_entity, None);
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
