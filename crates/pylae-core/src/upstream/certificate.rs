// SPDX-License-Identifier: Apache-2.0
//! What does a server's certificate say of itself? Names and dates, read without believing any of it.
//!
//! Whether it is good is for the verifier. Here any bytes may come: what cannot be read is left out, and nothing is read that
//! does not lie within what encloses it.

use crate::http::head::printable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most names that are kept.
const MOST_NAMES: usize = 8;
/// Most bytes of one name, and of a subject.
const NAME_LIMIT_BYTES: usize = 128;
/// Most elements that are looked at in one list.
const MOST_ELEMENTS: usize = 256;

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

mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OBJECT_ID: u8 = 0x06;
    pub const BMP_STRING: u8 = 0x1e;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[0]`: the version of a certificate.
    pub const VERSION: u8 = 0xa0;
    /// `[3]`: the extensions of a certificate.
    pub const EXTENSIONS: u8 = 0xa3;
    /// `[2]` of a general name: a DNS name.
    pub const DNS_NAME: u8 = 0x82;
    /// `[7]` of a general name: an address.
    pub const IP_ADDRESS: u8 = 0x87;
}

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.4.10
const ORGANISATION: &[u8] = &[0x55, 4, 10];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

/// The parts of a certificate that are read (RFC 5280 §4.1).
struct Parts<'a> {
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    /// What follows the subject.
    rest: &'a [u8],
}

/// One element of DER: its tag, its content, what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // 0x80, a length that is not known, is no DER.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0usize, |sum, &digit| sum << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The content of an element of this tag, and what follows it.
fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// The elements of a list, as far as they can be read.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, content))
    })
    .take(MOST_ELEMENTS)
}

/// When the next one of a revocation list is due (RFC 5280 §5.1), in seconds since the epoch; none: it does not say.
pub fn next_update_s(list: &[u8]) -> Option<i64> {
    let (list, _) = expect(list, tag::SEQUENCE)?;
    let (signed, _) = expect(list, tag::SEQUENCE)?;
    let (_, rest) = expect(signed, tag::INTEGER)?;
    let (_, rest) = expect(rest, tag::SEQUENCE)?;
    let (_, rest) = expect(rest, tag::SEQUENCE)?;
    let (_, _, rest) = element(rest)?;
    let (tag, content, _) = element(rest)?;
    time(tag, content)
}

fn parts(certificate: &[u8]) -> Option<Parts<'_>> {
    let (certificate, _) = expect(certificate, tag::SEQUENCE)?;
    let (signed, _) = expect(certificate, tag::SEQUENCE)?;
    let after_version = match element(signed)? {
        (tag::VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_, rest) = expect(after_version, tag::INTEGER)?;
    let (_, rest) = expect(rest, tag::SEQUENCE)?;
    let (issuer, rest) = expect(rest, tag::SEQUENCE)?;
    let (validity, rest) = expect(rest, tag::SEQUENCE)?;
    let (subject, rest) = expect(rest, tag::SEQUENCE)?;
    Some(Parts { issuer, validity, subject, rest })
}

impl CertificateFacts {
    /// What a certificate (DER) says; `None`: it cannot be read as one.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let parts = parts(certificate)?;
        let mut times = elements(parts.validity).map(|(tag, content)| time(tag, content));
        Some(CertificateFacts {
            subject: name_text(parts.subject),
            issuer: name_text(parts.issuer),
            names: alternative_names(parts.rest).unwrap_or_default(),
            not_before_s: times.next().flatten(),
            not_after_s: times.next().flatten(),
        })
    }
}

/// Are issuer and subject of this certificate the same name?
pub fn is_self_signed(certificate: &[u8]) -> bool {
    parts(certificate).is_some_and(|parts| parts.issuer == parts.subject)
}

/// What a distinguished name says: its common name and its organisation. The sequence it is in may be around it, or not.
pub fn name_text(name: &[u8]) -> String {
    let name = expect(name, tag::SEQUENCE).map_or(name, |(content, _)| content);
    let mut found: [Option<String>; 2] = [None, None];
    for (tag, set) in elements(name) {
        if tag != tag::SET {
            continue;
        }
        for (_, attribute) in elements(set) {
            let Some((id, rest)) = expect(attribute, tag::OBJECT_ID) else { continue };
            let slot = match id {
                COMMON_NAME => &mut found[0],
                ORGANISATION => &mut found[1],
                _ => continue,
            };
            if let Some((tag, content, _)) = element(rest) {
                slot.get_or_insert_with(|| string(tag, content));
            }
        }
    }
    let [common_name, organisation] = found;
    let parts = [common_name.map(|name| format!("CN={name}")), organisation.map(|name| format!("O={name}"))];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn string(tag: u8, content: &[u8]) -> String {
    if tag == tag::BMP_STRING {
        let units = content.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
        let text: String =
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).take(NAME_LIMIT_BYTES).collect();
        return printable(text.as_bytes(), NAME_LIMIT_BYTES);
    }
    printable(content, NAME_LIMIT_BYTES)
}

/// The alternative names among what follows the subject.
fn alternative_names(rest: &[u8]) -> Option<Vec<String>> {
    let (_, extensions) = elements(rest).find(|(tag, _)| *tag == tag::EXTENSIONS)?;
    let (extensions, _) = expect(extensions, tag::SEQUENCE)?;
    let names = elements(extensions).find_map(|(_, extension)| {
        let (id, rest) = expect(extension, tag::OBJECT_ID)?;
        let value = elements(rest).find(|(tag, _)| *tag == tag::OCTET_STRING);
        value.filter(|_| id == SUBJECT_ALT_NAME).map(|(_, value)| value)
    })?;
    let (names, _) = expect(names, tag::SEQUENCE)?;
    Some(elements(names).filter_map(|(tag, content)| general_name(tag, content)).take(MOST_NAMES).collect())
}

fn general_name(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        tag::DNS_NAME => Some(printable(content, NAME_LIMIT_BYTES)),
        tag::IP_ADDRESS => {
            let address = match content.len() {
                4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?)),
                16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?)),
                _ => return None,
            };
            Some(address.to_string())
        }
        _ => None,
    }
}

/// Seconds since the epoch of a time (RFC 5280 §4.1.2.5): always UTC, with seconds.
fn time(tag: u8, content: &[u8]) -> Option<i64> {
    let (digits, rest) = content.split_at_checked(match tag {
        tag::UTC_TIME => 12,
        tag::GENERALIZED_TIME => 14,
        _ => return None,
    })?;
    if rest != b"Z" || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |part: &[u8]| part.iter().fold(0i64, |sum, &digit| sum * 10 + i64::from(digit - b'0'));
    let (year, rest) = digits.split_at(digits.len() - 10);
    let year = match number(year) {
        year @ 0..50 if tag == tag::UTC_TIME => 2000 + year,
        year if tag == tag::UTC_TIME => 1900 + year,
        year => year,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::rfc3339_ms;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    /// `openssl req -x509 -config names.cnf` with C, O, OU, CN and ten alternative names: DNS names, two addresses, a URI.
    const NAMES: &[u8] = include_bytes!("certificate/names.pem");
    /// `openssl req -x509 -utf8 -subj /CN=déjà/O=X -days 20000`: beyond 2049, where dates are written otherwise.
    const FAR: &[u8] = include_bytes!("certificate/far.pem");
    /// `openssl x509 -req -CA ca.pem`: version 1, without extensions.
    const VERSION1: &[u8] = include_bytes!("certificate/version1.pem");

    fn der(pem: &[u8]) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem).expect("a certificate").to_vec()
    }

    fn date(seconds: Option<i64>) -> String {
        rfc3339_ms(u64::try_from(seconds.expect("a date")).expect("after 1970") * 1000)
    }

    #[test]
    fn test_names_and_dates_are_those_that_openssl_wrote() {
        let facts = CertificateFacts::of(&der(NAMES)).expect("facts");
        assert_eq!(facts.subject, "CN=api.test, O=Example, Inc.");
        assert_eq!(facts.issuer, facts.subject);
        assert!(is_self_signed(&der(NAMES)));
        assert_eq!(facts.names, ["api.test", "*.api.test", "10.0.0.1", "fe80::1", "d1", "d2", "d3", "d4"], "8 of them, and no URI");
        assert_eq!(date(facts.not_before_s), "2026-11-25T02:42:12.000Z");
        assert_eq!(date(facts.not_after_s), "2036-11-22T02:42:12.000Z");
    }

    #[test]
    fn test_dates_beyond_2049_and_names_beyond_ascii_are_read() {
        let facts = CertificateFacts::of(&der(FAR)).expect("facts");
        assert_eq!(facts.subject, "CN=d\\xC3\\xA9j\\xC3\\xA0, O=X");
        assert_eq!(&date(facts.not_after_s)[..10], "2081-08-28");
    }

    #[test]
    fn test_a_certificate_of_version_1_has_no_alternative_names() {
        let facts = CertificateFacts::of(&der(VERSION1)).expect("facts");
        assert_eq!((facts.subject.as_str(), facts.issuer.as_str(), facts.names.len()), ("CN=leaf.test", "CN=ca", 0));
        assert!(!is_self_signed(&der(VERSION1)));
        assert_eq!(date(facts.not_after_s), "2027-03-05T02:42:12.000Z");
    }

    #[test]
    fn test_bytes_of_any_kind_do_no_harm_and_are_bounded() {
        for pem in [NAMES, FAR, VERSION1] {
            let whole = der(pem);
            for at in 0..whole.len() {
                for byte in 0..=255 {
                    let mut bytes = whole.clone();
                    bytes[at] = byte;
                    if let Some(facts) = CertificateFacts::of(&bytes) {
                        assert!(facts.names.len() <= MOST_NAMES);
                        let texts = facts.names.iter().chain([&facts.subject, &facts.issuer]);
                        // `\xHH` for each byte of two names at most.
                        assert!(texts.into_iter().all(|text| text.is_ascii() && text.len() <= 2 * (4 * NAME_LIMIT_BYTES + 8)));
                    }
                    let _ = is_self_signed(&bytes);
                }
                assert_eq!(CertificateFacts::of(&whole[..at]), None, "{at} bytes");
            }
        }
    }

    #[test]
    fn test_lengths_that_lie_lead_nowhere() {
        for bytes in [&b""[..], b"\x30", b"\x30\x80\x00\x00", b"\x30\x84\xff\xff\xff\xff\x00", b"\x30\x85\x00\x00\x00\x00\x01\x00"] {
            assert_eq!(element(bytes), None, "{bytes:?}");
        }
        assert_eq!(element(b"\x04\x81\x01a!"), Some((4, &b"a"[..], &b"!"[..])));
    }

    #[test]
    fn test_times_that_are_none_are_left_out() {
        assert_eq!(time(tag::UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(tag::GENERALIZED_TIME, b"20000229120000Z"), Some(951_825_600));
        for bytes in
            [&b"701301000000Z"[..], b"700100000000Z", b"7001010000Z", b"70010100000aZ", b"700101000000+0100", b"700101250000Z", b""]
        {
            assert_eq!(time(tag::UTC_TIME, bytes), None, "{bytes:?}");
        }
    }
}
