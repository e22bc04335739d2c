// SPDX-License-Identifier: Apache-2.0
//! What of a request may be kept? Names, sizes and what routes it; no values of parameters, no secrets. Every text is bounded, and
//! nothing in it can end a line, move a cursor or be taken for another field.

use crate::http::head::escape_into;

/// Longest value of a header field.
pub const VALUE_LIMIT: usize = 256;
/// Longest name of a header field or parameter.
pub const NAME_LIMIT: usize = 64;
/// In the place of what is withheld.
const WITHHELD: &str = "***";
/// What is shown of a request line that is none.
const GARBAGE_LIMIT: usize = 64;

/// Bytes from outside as text of at most about `limit` characters: `"`, `\`, control and non-ASCII bytes as `\xHH`.
pub fn text(bytes: &[u8], limit: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(limit) + 3);
    for byte in bytes {
        if text.len() >= limit {
            text.push_str("...");
            break;
        }
        escape_into(&mut text, std::slice::from_ref(byte));
    }
    text
}

/// A query in which the values of these parameters are withheld; names are compared decoded.
pub fn without_values(query: &[u8], names: &[Box<[u8]>]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(query.len());
    for (at, piece) in query.split(|&byte| byte == b'&').enumerate() {
        if at > 0 {
            shown.push(b'&');
        }
        match memchr::memchr(b'=', piece) {
            Some(end) if names.iter().any(|name| *crate::router::decoded(&piece[..end]) == **name) => {
                shown.extend_from_slice(&piece[..=end]);
                shown.extend_from_slice(WITHHELD.as_bytes());
            }
            _ => shown.extend_from_slice(piece),
        }
    }
    shown
}

/// Our own words, which may quote somebody: letters of any script stay, everything that is not printed goes.
pub fn words(text: &str, limit: usize) -> String {
    let mut words = String::with_capacity(text.len().min(limit) + 3);
    for character in text.chars() {
        if words.len() >= limit {
            words.push_str("...");
            break;
        }
        if (' '..='~').contains(&character) || (!character.is_ascii() && character.is_alphanumeric()) {
            words.push(character);
        } else {
            escape_into(&mut words, character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    words
}

/// A request line without the values of its parameters, and without a user that stands before the host.
pub fn line(line: &[u8], is_parsed: bool, limit: usize) -> String {
    if !is_parsed {
        return garbage(line);
    }
    let target_start = line.iter().position(|&b| b == b' ').map_or(0, |at| at + 1);
    let target_end = line.iter().rposition(|&b| b == b' ').filter(|&at| at >= target_start).unwrap_or(line.len());
    let mut shown = line[..target_start].to_vec();
    let whole = &line[target_start..target_end];
    let fragment = memchr::memchr(b'#', whole);
    // Looked for before the query is split off: a password may hold a `?`.
    let target = &without_user(&whole[..fragment.unwrap_or(whole.len())]);
    let (before, query) = match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (&target[..], None),
    };
    shown.extend_from_slice(before);
    if let Some(query) = query {
        shown.push(b'?');
        for (index, piece) in query.split(|&b| b == b'&').enumerate() {
            if shown.len() > limit {
                break;
            }
            if index > 0 {
                shown.push(b'&');
            }
            match name_of(piece) {
                (Some(name), true) => {
                    shown.extend_from_slice(name);
                    shown.push(b'=');
                    shown.extend_from_slice(WITHHELD.as_bytes());
                }
                (Some(name), false) => shown.extend_from_slice(name),
                (None, _) => shown.extend_from_slice(WITHHELD.as_bytes()),
            }
        }
    }
    if fragment.is_some() {
        shown.extend_from_slice(b"#***");
    }
    shown.extend_from_slice(&line[target_end..]);
    text(&shown, limit)
}

/// What came in the place of a request line: enough to know another protocol by, and nothing that looks like a header's value.
fn garbage(line: &[u8]) -> String {
    match memchr::memchr3(b':', b'=', b'?', &line[..line.len().min(GARBAGE_LIMIT)]) {
        Some(at) => format!("{}{WITHHELD}", text(&line[..=at], GARBAGE_LIMIT)),
        None => text(&line[..line.len().min(GARBAGE_LIMIT)], GARBAGE_LIMIT * 4),
    }
}

/// `http://user:password@host/`, or `user:password@host`, without the user.
fn without_user(target: &[u8]) -> Vec<u8> {
    let scheme = target.windows(3).position(|window| window == b"://").map(|at| at + 3);
    let start = match scheme {
        Some(start) if !target.starts_with(b"/") => start,
        _ if target.starts_with(b"/") => return target.to_vec(),
        _ => 0,
    };
    let end = target[start..].iter().position(|&b| b == b'/').map_or(target.len(), |at| start + at);
    match memchr::memrchr(b'@', &target[start..end]) {
        Some(at) => [&target[..start], WITHHELD.as_bytes(), &target[start + at..]].concat(),
        None => target.to_vec(),
    }
}

/// The name of a parameter, and whether it has a value; none where there is no `=`: it may be a token.
fn name_of(piece: &[u8]) -> (Option<&[u8]>, bool) {
    match memchr::memchr(b'=', piece) {
        Some(at) => {
            let name = &piece[..at];
            // The padding of a token is no value.
            let is_padding = name.len() >= 16 && piece[at..].iter().all(|&byte| byte == b'=');
            (Some(name).filter(|name| name.len() <= NAME_LIMIT && !is_padding), true)
        }
        None => (Some(piece).filter(|piece| piece.is_empty()), false),
    }
}

/// The names of the first `limit` parameters, and how many others there are.
pub fn query_names(query: &[u8], limit: usize) -> (Vec<String>, usize) {
    let mut pieces = query.split(|&b| b == b'&').filter(|piece| !piece.is_empty());
    let names = pieces
        .by_ref()
        .take(limit)
        .map(|piece| name_of(piece).0.map_or_else(|| WITHHELD.to_owned(), |name| text(name, NAME_LIMIT)))
        .collect();
    (names, pieces.count())
}

/// The value of a request's field as far as it may be kept.
pub fn value(name: &[u8], value: &[u8]) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let shown = match &name[..] {
        b"host" | b"x-forwarded-host" => &authority(value)[..],
        b"origin" | b"referer" | b"x-forwarded-uri" | b"x-forwarded-path" | b"x-forwarded-prefix" => &without_query(value)[..],
        name if is_shown(name) => value,
        _ => return None,
    };
    Some(text(shown, VALUE_LIMIT))
}

/// `user:password@host` without the user.
pub fn authority(value: &[u8]) -> Vec<u8> {
    match memchr::memrchr(b'@', value) {
        Some(at) => [WITHHELD.as_bytes(), &value[at..]].concat(),
        None => value.to_vec(),
    }
}

fn without_query(value: &[u8]) -> Vec<u8> {
    let shown = without_user(value);
    shown.split(|&b| matches!(b, b'?' | b'#')).next().unwrap_or_default().to_vec()
}

/// Fields that say how a request came and what it wants, never who sends it with which right. Not all that begin `x-forwarded-`:
/// proxies of logins send tokens, mail addresses and certificates under such names.
fn is_shown(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 35] = [
        b"host",
        b"user-agent",
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"te",
        b"expect",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-scheme",
        b"x-forwarded-ssl",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-request-id",
        b"traceparent",
        b"origin",
        b"kong-request-id",
        b"x-kong-request-id",
        b"cache-control",
        b"range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_values_of_parameters_are_withheld_from_the_line() {
        for (given, shown) in [
            (&b"GET /a?token=secret&x=1 HTTP/1.1"[..], "GET /a?token=***&x=*** HTTP/1.1"),
            (b"GET /a?flag&b=2 HTTP/1.1", "GET /a?***&b=*** HTTP/1.1"),
            (b"GET /a HTTP/1.1", "GET /a HTTP/1.1"),
            (b"GET /a?b=c?d=e HTTP/1.1", "GET /a?b=*** HTTP/1.1"),
            (b"GET http://user:password@host/a?b=c HTTP/1.1", "GET http://***@host/a?b=*** HTTP/1.1"),
            (b"GET /a?eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0 HTTP/1.1", "GET /a?*** HTTP/1.1"),
            (b"GET /a?b=secret", "GET /a?b=***"),
            (b"GET /cb#access_token=secret HTTP/1.1", "GET /cb#*** HTTP/1.1"),
            (b"CONNECT user:secret@host:443 HTTP/1.1", "CONNECT ***@host:443 HTTP/1.1"),
            (b"GET http://user:sec?ret@host/a HTTP/1.1", "GET http://***@host/a HTTP/1.1"),
            (b"GET /a?VE9QU0VDUkVUVE9QU0VDUkVU== HTTP/1.1", "GET /a?*** HTTP/1.1"),
            (b"GET /a?b=c@d HTTP/1.1", "GET /a?b=*** HTTP/1.1"),
        ] {
            assert_eq!(line(given, true, 2048), shown);
        }
    }

    #[test]
    fn test_a_first_line_that_is_none_shows_no_secret() {
        assert_eq!(line(b"Authorization: Basic dXNlcjpwYXNz", false, 2048), "Authorization:***");
        assert_eq!(line(b"password=hunter2", false, 2048), "password=***");
        assert_eq!(line(b"\x16\x03\x01\x02\x00", false, 2048), "\\x16\\x03\\x01\\x02\\x00");
        assert!(line(&vec![b'a'; 100_000], false, 2048).len() < 100);
    }

    #[test]
    fn test_fields_that_carry_rights_are_withheld() {
        for name in [
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "X-Api-Key",
            "apikey",
            "X-Forwarded-Access-Token",
            "X-Forwarded-Email",
            "X-Forwarded-Client-Cert",
            "X-Amzn-Oidc-Data",
            "X-Pylae-Probe",
            "Set-Cookie",
            "If-Secret",
            "Accept-Token",
        ] {
            assert_eq!(value(name.as_bytes(), b"secret"), None, "{name}");
        }
        assert_eq!(value(b"HOST", b"a.test").as_deref(), Some("a.test"));
        assert_eq!(value(b"Host", b"user:secret@a.test").as_deref(), Some("***@a.test"));
        assert_eq!(value(b"Origin", b"http://user:secret@a.test").as_deref(), Some("http://***@a.test"));
        assert_eq!(value(b"Referer", b"https://u:p@a.test/b?token=secret#c").as_deref(), Some("https://***@a.test/b"));
        assert_eq!(value(b"X-Forwarded-Uri", b"/b?token=secret").as_deref(), Some("/b"));
    }

    #[test]
    fn test_a_text_is_bounded_whatever_it_is_made_of() {
        for byte in [b'a', b'"', 0, 0xff, b'\n'] {
            let shown = text(&vec![byte; 65_536], 256);
            assert!(shown.len() <= 256 + 7, "{} of {byte}", shown.len());
            assert!(shown.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
        assert!(words(&"\u{202e}\n".repeat(10_000), 256).len() < 256 + 20);
        assert_eq!(words("ein Fehler, größer\nals\u{202e}\"x\"", 256), "ein Fehler, größer\\x0Aals\\xE2\\x80\\xAE\"x\"");
    }

    #[test]
    fn test_ten_thousand_parameters_are_counted_not_kept() {
        let query = vec!["name=value"; 10_000].join("&");
        let (names, others) = query_names(query.as_bytes(), 32);
        assert_eq!((names.len(), others), (32, 9_968));
        assert!(line(format!("GET /?{query} HTTP/1.1").as_bytes(), true, 2048).len() <= 2048 + 7);
    }
}
