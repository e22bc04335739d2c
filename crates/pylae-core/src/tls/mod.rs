// SPDX-License-Identifier: Apache-2.0
//! Which certificate, and who is the client? TLS towards clients.

pub mod asking;
pub mod chain;
mod client;

use crate::exchange::TlsFacts;
use client::Unjudged;
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Offers the first certificate whose kind of key the client can check.
#[derive(Debug)]
struct ByKeyType(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByKeyType {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

/// Most sets of authorities for which a configuration is kept: each keeps sessions to resume.
const MOST_CONFIGURATIONS: usize = 64;
/// Bytes of names that fit into a message of the handshake, with room for what else is in it.
const AUTHORITIES_LIMIT_BYTES: usize = 60_000;

/// Names (DER) of authorities.
type Authorities = Vec<Vec<u8>>;

/// What the listeners of one worker shake hands with.
pub struct ServerTls {
    keys: Arc<ByKeyType>,
    plain: Arc<ServerConfig>,
    /// By the authorities named. Sessions are resumed only by the configuration that began them: who was not asked for a certificate
    /// before shakes hands anew where one is wanted.
    asking: RefCell<Vec<(Authorities, Arc<ServerConfig>)>>,
}

impl ServerTls {
    /// Reads certificates and keys (PEM).
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn new(pairs: &[(PathBuf, PathBuf)]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (certificate, key) in pairs {
            let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect)
                .map_err(|error| format!("`{}`: {error}", certificate.display()))?;
            if chain.is_empty() {
                return Err(format!("`{}`: holds no certificate", certificate.display()));
            }
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("`{}`: {error}", key.display()))?;
            let signer = any_supported_type(&private).map_err(|error| format!("`{}`: {error}", key.display()))?;
            keys.push(Arc::new(CertifiedKey::new(chain, signer)));
        }
        if keys.is_empty() {
            return Err("a TLS listener needs ssl_cert and ssl_cert_key".to_owned());
        }
        let keys = Arc::new(ByKeyType(keys));
        let plain = configured(&keys, None).map_err(|error| error.to_string())?;
        Ok(ServerTls { keys, plain, asking: RefCell::default() })
    }

    /// For clients that are not asked for a certificate.
    pub fn plain(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.plain)
    }

    /// For clients that are, and are told the names (DER) of `authorities` to choose by; too many to send are not sent.
    ///
    /// # Errors
    /// What rustls says.
    pub fn asking(&self, mut authorities: Authorities) -> Result<Arc<ServerConfig>, rustls::Error> {
        authorities.retain(|name| !name.is_empty());
        authorities.sort_unstable();
        authorities.dedup();
        if authorities.iter().map(|name| name.len() + 2).sum::<usize>() > AUTHORITIES_LIMIT_BYTES {
            authorities.clear();
        }
        let mut asking = self.asking.borrow_mut();
        if let Some((_, config)) = asking.iter().find(|(named, _)| *named == authorities) {
            return Ok(Arc::clone(config));
        }
        let config = configured(&self.keys, Some(Unjudged::new(&authorities)))?;
        if asking.len() == MOST_CONFIGURATIONS {
            asking.remove(0);
        }
        asking.push((authorities, Arc::clone(&config)));
        Ok(config)
    }
}

fn configured(keys: &Arc<ByKeyType>, client: Option<Unjudged>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(crate::upstream::tls::provider()).with_safe_default_protocol_versions()?;
    let builder = match client {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(keys) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What was agreed, in OpenSSL's words.
pub fn facts(connection: &rustls::ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let cipher = connection.negotiated_cipher_suite().map_or_else(String::new, |suite| openssl_name(&format!("{:?}", suite.suite())));
    let client = connection.peer_certificates().and_then(client::presented).map(Rc::new);
    TlsFacts { version: version.to_owned(), cipher, sni: connection.server_name().map(str::to_owned), client }
}

fn openssl_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("TLS13_") {
        return format!("TLS_{rest}");
    }
    name.strip_prefix("TLS_")
        .unwrap_or(name)
        .replace("_WITH_", "-")
        .replace("AES_", "AES")
        .replace('_', "-")
        .replace("-SHA256-SHA256", "-SHA256")
        .replace("CHACHA20-POLY1305-SHA256", "CHACHA20-POLY1305")
}

#[cfg(test)]
mod tests {
    use super::openssl_name;

    #[test]
    fn test_ciphers_have_the_names_of_openssl() {
        assert_eq!(openssl_name("TLS13_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384");
        assert_eq!(openssl_name("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "ECDHE-RSA-AES128-GCM-SHA256");
        assert_eq!(openssl_name("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"), "ECDHE-ECDSA-CHACHA20-POLY1305");
    }
}
