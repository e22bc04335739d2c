// SPDX-License-Identifier: Apache-2.0
//! What does a TLS alert say? Its name in the RFCs, and the words of OpenSSL that people search for.

use rustls::AlertDescription;
use std::borrow::Cow;
use std::io;

/// A fatal alert of a peer (RFC 8446 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert(pub u8);

/// `handshake_failure`: no certificate was shown, says OpenSSL up to TLS 1.2; but also: no cipher in common.
const HANDSHAKE_FAILURE: u8 = 40;
/// `protocol_version`.
pub const PROTOCOL_VERSION: Alert = Alert(70);
/// `insufficient_security`.
pub const INSUFFICIENT_SECURITY: Alert = Alert(71);
/// `unrecognized_name`.
pub const UNRECOGNIZED_NAME: Alert = Alert(112);
/// `certificate_required`: said of nothing but a client certificate.
const CERTIFICATE_REQUIRED: u8 = 116;
/// What servers say, after they asked for a certificate and got none, instead of `certificate_required`: `no_certificate`,
/// `bad_certificate` (Go, Java), `unsupported_certificate`, `certificate_unknown`, `unknown_ca`, `access_denied`.
const ABOUT_CERTIFICATES: [u8; 6] = [41, 42, 43, 46, 48, 49];

/// Number, name (RFC 8446 §6 and those before it), text of OpenSSL (ssl/ssl_err.c).
const ALERTS: [(u8, &str, &str); 29] = [
    (0, "close_notify", "close notify"),
    (10, "unexpected_message", "sslv3 alert unexpected message"),
    (20, "bad_record_mac", "sslv3 alert bad record mac"),
    (21, "decryption_failed", "tlsv1 alert decryption failed"),
    (22, "record_overflow", "tlsv1 alert record overflow"),
    (30, "decompression_failure", "sslv3 alert decompression failure"),
    (40, "handshake_failure", "sslv3 alert handshake failure"),
    (41, "no_certificate", "sslv3 alert no certificate"),
    (42, "bad_certificate", "sslv3 alert bad certificate"),
    (43, "unsupported_certificate", "sslv3 alert unsupported certificate"),
    (44, "certificate_revoked", "sslv3 alert certificate revoked"),
    (45, "certificate_expired", "sslv3 alert certificate expired"),
    (46, "certificate_unknown", "sslv3 alert certificate unknown"),
    (47, "illegal_parameter", "sslv3 alert illegal parameter"),
    (48, "unknown_ca", "tlsv1 alert unknown ca"),
    (49, "access_denied", "tlsv1 alert access denied"),
    (50, "decode_error", "tlsv1 alert decode error"),
    (51, "decrypt_error", "tlsv1 alert decrypt error"),
    (70, "protocol_version", "tlsv1 alert protocol version"),
    (71, "insufficient_security", "tlsv1 alert insufficient security"),
    (80, "internal_error", "tlsv1 alert internal error"),
    (86, "inappropriate_fallback", "tlsv1 alert inappropriate fallback"),
    (90, "user_canceled", "tlsv1 alert user cancelled"),
    (100, "no_renegotiation", "tlsv1 alert no renegotiation"),
    (109, "missing_extension", "tlsv13 alert missing extension"),
    (110, "unsupported_extension", "tlsv1 unsupported extension"),
    (112, "unrecognized_name", "tlsv1 unrecognized name"),
    (116, "certificate_required", "tlsv13 alert certificate required"),
    (120, "no_application_protocol", "tlsv1 alert no application protocol"),
];

impl Alert {
    /// The alert that an error of TLS stands for, if it does.
    pub fn in_error(error: &io::Error) -> Option<Alert> {
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::AlertReceived(alert) => Some(Alert::of(*alert)),
            _ => None,
        }
    }

    /// From its description.
    pub fn of(alert: AlertDescription) -> Alert {
        Alert(u8::from(alert))
    }

    fn row(self) -> Option<&'static (u8, &'static str, &'static str)> {
        ALERTS.iter().find(|(number, ..)| *number == self.0)
    }

    /// `certificate_required`; `alert_99` where the number has no name.
    pub fn name(self) -> Cow<'static, str> {
        self.row().map_or_else(|| Cow::Owned(format!("alert_{}", self.0)), |(_, name, _)| Cow::Borrowed(*name))
    }

    /// `error:0A000410:SSL routines::sslv3 alert handshake failure:SSL alert number 40`, as OpenSSL 3 writes it.
    pub fn openssl_text(self) -> String {
        let (number, words) = (0x0A00_0000 + 1000 + u32::from(self.0), self.row().map_or("reason(alert)", |(.., words)| *words));
        format!("error:{number:08X}:SSL routines::{words}:SSL alert number {}", self.0)
    }

    /// Does the peer want a client certificate? `was_asked`: it asked for one in the handshake.
    pub fn wants_certificate(self, was_asked: bool) -> bool {
        self.0 == CERTIFICATE_REQUIRED || was_asked && (self.0 == HANDSHAKE_FAILURE || ABOUT_CERTIFICATES.contains(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_alerts_have_the_names_of_the_rfc_and_the_words_of_openssl() {
        let alert = Alert::of(AlertDescription::HandshakeFailure);
        assert_eq!(alert.name(), "handshake_failure");
        assert_eq!(alert.openssl_text(), "error:0A000410:SSL routines::sslv3 alert handshake failure:SSL alert number 40");
        let alert = Alert::of(AlertDescription::CertificateRequired);
        assert_eq!(alert.openssl_text(), "error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116");
        assert_eq!(Alert(99).name(), "alert_99");
        assert!(Alert(99).openssl_text().ends_with(":SSL alert number 99"));
    }

    #[test]
    fn test_an_alert_tells_of_a_wanted_certificate_only_where_one_was_asked_for_or_nothing_else_is_meant() {
        assert!(Alert(116).wants_certificate(false));
        for number in [40, 42, 46, 48] {
            assert!(Alert(number).wants_certificate(true) && !Alert(number).wants_certificate(false), "{number}");
        }
        for number in [10, 45, 70, 80, 112] {
            assert!(!Alert(number).wants_certificate(true), "{number}");
        }
    }
}
