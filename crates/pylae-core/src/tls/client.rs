// SPDX-License-Identifier: Apache-2.0
//! Does the client have the private key of the certificate it presents? Who vouches for it is asked later, by a plugin.

use crate::exchange::ClientCertificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

/// Asks for a certificate, does without, and takes any whose key the client has.
///
/// An untrusted certificate must not end the handshake: the answer to the request says what is wrong, and other Routes of the same
/// name may want none.
#[derive(Debug)]
pub(super) struct Unjudged {
    provider: Arc<CryptoProvider>,
    authorities: Vec<DistinguishedName>,
}

impl Unjudged {
    pub(super) fn new(authorities: &[Vec<u8>]) -> Self {
        let authorities = authorities.iter().map(|name| DistinguishedName::from(name.clone())).collect();
        Unjudged { provider: crate::upstream::tls::provider(), authorities }
    }
}

impl ClientCertVerifier for Unjudged {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a client presented, in a new handshake or the one its session began with.
pub(super) fn presented(chain: &[CertificateDer<'static>]) -> Option<ClientCertificate> {
    if chain.is_empty() {
        return None;
    }
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for certificate in chain {
        hash.update(&u32::try_from(certificate.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(certificate);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Some(ClientCertificate { chain: chain.to_vec(), digest })
}
