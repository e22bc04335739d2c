// SPDX-License-Identifier: Apache-2.0
//! What does a server's certificate say of itself? Names and dates; nothing of it is believed here.

/// What a certificate says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// `CN=api.test, O=Example`, printable.
    pub subject: String,
    /// Who issued it, likewise.
    pub issuer: String,
    /// Names and addresses it is for, at most 8.
    pub names: Vec<String>,
    /// Seconds since the epoch; it is good from then.
    pub not_before_s: Option<i64>,
    /// Seconds since the epoch; it is good until then.
    pub not_after_s: Option<i64>,
}
