// SPDX-License-Identifier: Apache-2.0
//! What was learned in a handshake with an upstream, be it that it failed?

use super::certificate::CertificateFacts;

/// What was learned in a handshake with an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTlsFacts {
    /// `TLSv1.3`; `None`: it was not agreed on.
    pub version: Option<&'static str>,
    /// The protocol that was agreed on.
    pub alpn: Option<String>,
    /// The name that was asked for; `None` where the host is an address.
    pub sni: Option<String>,
    /// The certificate was checked, and is good.
    pub is_verified: bool,
    /// What the server's certificate says, if it was seen.
    pub certificate: Option<CertificateFacts>,
    /// The server asked for a client certificate; none was shown.
    pub is_certificate_wanted: bool,
}
