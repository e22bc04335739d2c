// SPDX-License-Identifier: Apache-2.0
//! Is this request a marked probe of `pylae doctor`? Its signature says so; whoever has not the key of the prefix can make none.

use crate::exchange::Request;
use ring::hmac;

/// The field a probe carries: `v1;<unix seconds>;<16 hex nonce>;<64 hex HMAC-SHA256>`.
const FIELD: &str = "x-pylae-probe";
/// Clocks may differ by this much.
const SKEW_S: u64 = 60;
/// Digits of the nonce.
const NONCE_DIGITS: usize = 16;
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// What probes are signed with.
pub struct ProbeKey(hmac::Key);

impl ProbeKey {
    /// From 64 hexadecimal digits; none from anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = decode_hex(text.as_bytes()).filter(|bytes| bytes.len() == KEY_BYTES)?;
        Some(ProbeKey(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The nonce of a probe that is signed for this request and this time; none of any other request.
    pub fn nonce_of(&self, request: &Request, now_s: u64) -> Option<Box<str>> {
        let field = request.headers.get_str(FIELD)?;
        if !matches!(&*request.method, "GET" | "HEAD" | "OPTIONS") || request.headers.get_all(FIELD).count() != 1 {
            return None;
        }
        let mut parts = field.split(';');
        let ("v1", seconds, nonce, signature, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let is_number = !seconds.is_empty() && seconds.len() <= 20 && seconds.bytes().all(|b| b.is_ascii_digit());
        let is_in_time = is_number && seconds.parse::<u64>().is_ok_and(|at| at.abs_diff(now_s) <= SKEW_S);
        let is_nonce = nonce.len() == NONCE_DIGITS && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_in_time || !is_nonce {
            return None;
        }
        let signature = decode_hex(signature.as_bytes())?;
        let mut signed = format!("v1|{seconds}|{nonce}|{}|", request.method).into_bytes();
        signed.extend_from_slice(&request.raw_path);
        hmac::verify(&self.0, &signed, &signature).ok()?;
        Some(nonce.into())
    }
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::Headers;
    use crate::observe::record::examples;

    const KEY: [u8; 32] = [7; 32];
    const NOW_S: u64 = 1_800_000_000;

    fn key() -> ProbeKey {
        ProbeKey::from_hex(&"07".repeat(32)).expect("64 digits")
    }

    fn signed(method: &str, path: &str, at_s: u64) -> String {
        let text = format!("v1|{at_s}|0123456789abcdef|{method}|{path}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), text.as_bytes());
        let digits = crate::observe::record::hex(tag.as_ref());
        format!("v1;{at_s};0123456789abcdef;{digits}")
    }

    fn request(method: &str, path: &str, fields: &[&str]) -> Request {
        let mut request = examples::request();
        request.method = method.to_owned();
        request.raw_path = path.as_bytes().to_vec();
        request.headers = Headers::new();
        for field in fields {
            request.headers.add("X-Pylae-Probe", field);
        }
        request
    }

    #[test]
    fn test_a_signed_probe_is_known_within_a_minute() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = request(method, "/a%20b", &[&signed(method, "/a%20b", NOW_S)]);
            for now_s in [NOW_S - 60, NOW_S, NOW_S + 60] {
                assert_eq!(key().nonce_of(&request, now_s).as_deref(), Some("0123456789abcdef"));
            }
            for now_s in [NOW_S - 61, NOW_S + 61] {
                assert_eq!(key().nonce_of(&request, now_s), None);
            }
        }
    }

    #[test]
    fn test_a_probe_forged_moved_or_repeated_on_another_request_is_an_ordinary_header() {
        let good = signed("GET", "/a", NOW_S);
        let flipped = good.replace("v1;18", "v1;17");
        let cut = &good[..good.len() - 2];
        let longer = format!("{good}00");
        let more = format!("{good};x");
        for (method, path, fields) in [
            ("POST", "/a", vec![signed("POST", "/a", NOW_S)]),
            ("GET", "/b", vec![good.clone()]),
            ("HEAD", "/a", vec![good.clone()]),
            ("GET", "/a", vec![good.clone(), good.clone()]),
            ("GET", "/a", vec![flipped]),
            ("GET", "/a", vec![cut.to_owned()]),
            ("GET", "/a", vec![longer]),
            ("GET", "/a", vec![more]),
            ("GET", "/a", vec![good.replace("v1;", "v2;")]),
            ("GET", "/a", vec![good.replace(";0123", ";+123")]),
            ("GET", "/a", vec![String::new()]),
            ("GET", "/a", vec!["v1;;;".to_owned()]),
            ("GET", "/a", vec!["x".repeat(65_000)]),
            ("GET", "/a", vec![]),
        ] {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            assert_eq!(key().nonce_of(&request(method, path, &fields), NOW_S), None, "{method} {path} {fields:?}");
        }
        assert!(key().nonce_of(&request("GET", "/a", &[&good]), NOW_S).is_some());
    }

    #[test]
    fn test_a_key_is_64_hexadecimal_digits() {
        for text in ["", "07", "zz", &"07".repeat(31), &"07".repeat(33), &"0g".repeat(32)] {
            assert!(ProbeKey::from_hex(text).is_none(), "{text}");
        }
    }
}
