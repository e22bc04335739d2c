// SPDX-License-Identifier: Apache-2.0
//! Which fields of a request end here? Hop-by-hop ones (RFC 9110 §7.6.1) and those the gateway writes anew.

/// Fields of a request that end here or are written anew.
pub fn is_dropped(name: &[u8], nominated: &[String]) -> bool {
    let rewritten = match name.len() {
        2 => name.eq_ignore_ascii_case(b"te"),
        3 => name.eq_ignore_ascii_case(b"via"),
        4 => name.eq_ignore_ascii_case(b"host"),
        5 => name.eq_ignore_ascii_case(b"proxy"),
        6 => name.eq_ignore_ascii_case(b"expect"),
        7 => name.eq_ignore_ascii_case(b"upgrade") || name.eq_ignore_ascii_case(b"trailer"),
        9 => is_spelled(name, b"x-real-ip"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        15 => is_spelled(name, b"x-forwarded-for"),
        16 => {
            name.eq_ignore_ascii_case(b"proxy-connection")
                || is_spelled(name, b"x-forwarded-host")
                || is_spelled(name, b"x-forwarded-port")
                || is_spelled(name, b"x-forwarded-path")
        }
        17 => {
            name.eq_ignore_ascii_case(b"transfer-encoding")
                || is_spelled(name, b"x-forwarded-proto")
                || is_spelled(name, b"x-kong-request-id")
        }
        18 => is_spelled(name, b"x-forwarded-prefix"),
        _ => false,
    };
    rewritten || nominated.iter().any(|nominee| name.eq_ignore_ascii_case(nominee.as_bytes()))
}

/// The same name, or one that many servers read as the same variable: CGI (RFC 3875 §4.1.18) has underscores for hyphens, and some
/// put an underscore in the place of whatever is no letter or digit.
pub fn is_spelled(name: &[u8], wanted: &[u8]) -> bool {
    let is_same = |(&a, &b): (&u8, &u8)| a.eq_ignore_ascii_case(&b) || (b == b'-' && !a.is_ascii_alphanumeric());
    name.len() == wanted.len() && name.iter().zip(wanted).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::is_dropped;

    #[test]
    fn test_hop_by_hop_and_forwarding_headers_end_here() {
        for name in
            ["Connection", "TE", "Upgrade", "Proxy", "Expect", "X-Real-IP", "x_forwarded_for", "X-Forwarded-Proto", "Transfer-Encoding"]
        {
            assert!(is_dropped(name.as_bytes(), &[]), "{name}");
        }
        assert!(is_dropped(b"X-Secret-Hop", &["x-secret-hop".into()]));
        assert!(!is_dropped(b"Authorization", &[]));
    }
}
