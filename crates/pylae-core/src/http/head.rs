// SPDX-License-Identifier: Apache-2.0
//! Where does a message's head end, and what does it say? Bytes in, heads or faults out; no I/O.
//!
//! Why our own and not `httparse`: docs/decisions/0003-http1-codec.md. The rules are nginx's where Kong's clients rely on
//! them (a line without a colon is a name with an empty value, HTTP/0.9 is served) and RFC 9112's where nginx is lenient
//! at the expense of whoever stands behind it.

use crate::exchange::Version;
use crate::fault::{Fault, FaultKind};
use crate::http::headers::{Headers, TOKEN, is_token};
use memchr::memchr;

/// Largest head of an answer, in bytes: eight of nginx's default `proxy_buffer_size`.
pub const RESPONSE_HEAD_LIMIT_BYTES: usize = 64 * 1024;
/// Most header fields in one message.
pub const FIELD_COUNT_LIMIT: usize = 1000;

/// How a request's body is framed (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes (answers only).
    UntilClose,
}

/// A parsed request line.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Where the method lies in the line.
    pub method: std::ops::Range<usize>,
    /// Where the target lies in the line.
    pub target: std::ops::Range<usize>,
    /// The version.
    pub version: Version,
}

/// What the fields of a request say about the message itself.
#[derive(Debug, Default)]
pub struct RequestFields {
    /// The fields, as they came.
    pub headers: Headers,
    /// Content-Length, if there is one.
    pub content_length: Option<u64>,
    /// `Transfer-Encoding: chunked` was there.
    pub is_chunked: bool,
    /// `Connection: close`.
    pub connection_close: bool,
    /// `Connection: keep-alive`.
    pub connection_keep_alive: bool,
    /// Names the client put into `Connection`, lower case, beside `close` and `keep-alive`.
    pub nominated: Vec<String>,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// The Host header.
    pub host: Option<Vec<u8>>,
    /// It says that it is a probe of `pylae doctor`.
    pub may_be_probe: bool,
}

/// Finds the end of a head: the index just past the empty line. `from` is where the search went on last time.
pub fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut position = from.saturating_sub(3);
    while let Some(offset) = memchr(b'\n', &bytes[position..]) {
        let newline = position + offset;
        match bytes.get(newline + 1) {
            Some(b'\n') => return Some(newline + 2),
            Some(b'\r') if bytes.get(newline + 2) == Some(&b'\n') => return Some(newline + 3),
            _ => position = newline + 1,
        }
    }
    None
}

/// The line without its terminator (CRLF, or LF alone as RFC 9112 §2.2 lets a recipient accept).
fn strip_line_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |l| l.strip_suffix(b"\r").unwrap_or(l))
}

/// Parses a request line given without its line end.
///
/// # Errors
/// `BadFraming`, `VersionNotSupported`; the detail says what was found.
pub fn parse_request_line(line: &[u8]) -> Result<RequestLine, Fault> {
    let bad = |detail: &'static str| Fault::new(FaultKind::BadFraming, detail);
    let Some(space) = memchr(b' ', line) else { return Err(bad("the request line has no target")) };
    if space == 0 || space > 64 || !line[..space].iter().all(|&b| b.is_ascii_uppercase() || b == b'_' || b == b'-') {
        return Err(bad("the method is not made of capital letters"));
    }
    let rest = &line[space + 1..];
    if rest.iter().any(|&b| b < b' ' || b == 0x7f) {
        return Err(bad("the request line holds a control byte"));
    }
    let Some(second) = memchr(b' ', rest) else {
        if rest.is_empty() {
            return Err(bad("the request line has no target"));
        }
        if &line[..space] != b"GET" {
            return Err(bad("an HTTP/0.9 request can only be GET"));
        }
        return Ok(RequestLine { method: 0..space, target: space + 1..line.len(), version: Version::Http09 });
    };
    let target = space + 1..space + 1 + second;
    if target.is_empty() {
        return Err(bad("the request line has no target"));
    }
    let version = match &rest[second + 1..] {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        other => match other {
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => match major {
                b'1' => Version::Http11,
                b'0' => return Err(bad("the request's HTTP version is below 1.0 and spelled out")),
                _ => return Err(Fault::new(FaultKind::VersionNotSupported, "the request line names HTTP/2 or later")),
            },
            _ => return Err(bad("the request line does not end in an HTTP version")),
        },
    };
    Ok(RequestLine { method: 0..space, target, version })
}

/// Optional white space is spaces and tabs alone (RFC 9110 §5.6.3): a form feed or a bare CR is no edge of a value.
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Splits one field line into name and value (trimmed). `None`: what is wrong with it.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let name_len = line.iter().position(|&b| !TOKEN[b as usize]).unwrap_or(line.len());
    if name_len == 0 {
        return Err(match line.first() {
            Some(b' ' | b'\t') => "a field line begins with white space (obs-fold)",
            Some(b':') => "a field has no name",
            _ => "a field name holds a byte that is no token",
        });
    }
    if name_len > 8192 {
        return Err("a field name is over 8192 bytes");
    }
    if name_len == line.len() {
        return Ok((line, b""));
    }
    match line[name_len] {
        b':' => {}
        b' ' | b'\t' => return Err("white space stands between a field name and its colon"),
        _ => return Err("a field name holds a byte that is no token"),
    }
    let value = trim_ows(&line[name_len + 1..]);
    // Without a branch for each byte it is done many bytes at a time: tokens are long.
    let is_control = |b: u8| (u8::from(b < b' ') & u8::from(b != b'\t')) | u8::from(b == 0x7f);
    if value.iter().fold(0, |found, &b| found | is_control(b)) != 0 {
        let is_end = value.iter().any(|&b| b == 0 || b == b'\r' || b == b'\n');
        return Err(if is_end { "a field value holds NUL or a bare CR" } else { "a field value holds a control byte" });
    }
    Ok((&line[..name_len], value))
}

/// Parses the field lines of a request (`bytes` ends with the empty line).
///
/// # Errors
/// The fault and the fields read before it (what they say decides how the error is worded).
#[expect(clippy::result_large_err, reason = "the refused are few, and what was read of them is needed")]
pub fn parse_request_fields(bytes: &[u8], version: Version, line_limit: usize) -> Result<RequestFields, (Fault, RequestFields)> {
    let mut fields = RequestFields { headers: Headers::with_capacity(16, bytes.len()), ..RequestFields::default() };
    let mut position = 0;
    let mut transfer_encodings = 0;
    let bad = |detail: &'static str| Fault::new(FaultKind::BadFraming, detail);
    while position < bytes.len() {
        let end = memchr(b'\n', &bytes[position..]).map_or(bytes.len(), |offset| position + offset + 1);
        let raw = &bytes[position..end];
        position = end;
        if raw.len() > line_limit {
            return Err((Fault::new(FaultKind::RequestHeaderTooLarge, "a header line is over the size of one buffer"), fields));
        }
        let line = strip_line_end(raw);
        if line.is_empty() {
            break;
        }
        let (name, value) = match split_field(line) {
            Ok(field) => field,
            Err(detail) => return Err((bad(detail), fields)),
        };
        if fields.headers.len() >= FIELD_COUNT_LIMIT {
            return Err((Fault::new(FaultKind::RequestHeaderTooLarge, "more than 1000 header fields"), fields));
        }
        fields.headers.add(name, value);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if fields.host.is_some() {
                    return Err((bad("there are two Host fields"), fields));
                }
                fields.host = Some(value.to_vec());
            }
            6 if name.eq_ignore_ascii_case(b"expect") => fields.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            10 if name.eq_ignore_ascii_case(b"connection") => read_connection(value, &mut fields),
            13 if name.eq_ignore_ascii_case(b"x-pylae-probe") => fields.may_be_probe = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if fields.content_length.is_some() {
                    return Err((bad("there are two Content-Length fields"), fields));
                }
                match parse_length(value) {
                    Some(length) => fields.content_length = Some(length),
                    None => return Err((bad("Content-Length is no number"), fields)),
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                transfer_encodings += 1;
                if transfer_encodings > 1 {
                    return Err((bad("there are two Transfer-Encoding fields"), fields));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err((Fault::new(FaultKind::TransferEncodingNotSupported, "Transfer-Encoding is not `chunked` alone"), fields));
                }
                fields.is_chunked = true;
            }
            // An odd spelling that some server behind us may read as framing (request smuggling).
            14 if name.eq_ignore_ascii_case(b"content_length") => return Err((bad("a field is spelled Content_Length"), fields)),
            _ => {}
        }
    }
    if fields.headers.contains("transfer_encoding") {
        return Err((bad("a field is spelled Transfer_Encoding"), fields));
    }
    if fields.is_chunked && fields.content_length.is_some() {
        return Err((bad("Content-Length and Transfer-Encoding are both there"), fields));
    }
    if fields.is_chunked && version != Version::Http11 {
        return Err((bad("Transfer-Encoding in a request below HTTP/1.1"), fields));
    }
    if version == Version::Http11 && fields.host.is_none() {
        return Err((bad("an HTTP/1.1 request without Host"), fields));
    }
    Ok(fields)
}

fn read_connection(value: &[u8], fields: &mut RequestFields) {
    for token in value.split(|&b| b == b',') {
        let token = token.trim_ascii();
        if token.eq_ignore_ascii_case(b"keep-alive") {
            fields.connection_keep_alive = true;
        } else if token.eq_ignore_ascii_case(b"close") {
            fields.connection_close = true;
        } else if is_token(token) && fields.nominated.len() < 32 {
            fields.nominated.push(String::from_utf8_lossy(token).to_ascii_lowercase());
        }
    }
}

/// Digits only, as RFC 9110 §8.6 has it: no sign, no list, no space.
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, &digit| sum * 10 + u64::from(digit - b'0')))
}

/// A host as RFC 3986 lets it be, with its port split off. `None`: not a host.
pub fn parse_authority(authority: &[u8]) -> Option<(String, Option<u16>)> {
    if authority.is_empty() || authority.len() > 255 + 6 {
        return None;
    }
    let text = std::str::from_utf8(authority).ok()?;
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        inside.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
        (&text[..inside.len() + 2], port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let valid = host.starts_with('[')
        || host.bytes().all(|b| {
            b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
                )
        });
    if host.is_empty() || !valid || host.contains("..") {
        return None;
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse::<u16>().ok()?),
        Some(_) => return None,
    };
    Some((host.to_owned(), port))
}

/// A parsed head of an answer.
#[derive(Debug)]
pub struct ResponseHead {
    /// HTTP/1.0 closes by default.
    pub version: Version,
    /// 100–999.
    pub status: u16,
    /// Reason phrase as sent.
    pub reason: Vec<u8>,
    /// The fields, as they came.
    pub headers: Headers,
    /// How the body is framed, were the request not HEAD.
    pub framing: Framing,
    /// May the connection carry another request?
    pub keep_alive: bool,
    /// Names in `Connection` to drop, lower case.
    pub nominated: Vec<String>,
}

/// Could these first bytes begin an HTTP/1 answer? Asked before the head is whole, so that a peer that speaks something
/// else is named at once and not after a timeout.
pub fn may_be_response(bytes: &[u8]) -> bool {
    let expected = b"HTTP/1.";
    let shared = bytes.len().min(expected.len());
    bytes[..shared] == expected[..shared]
}

/// Parses the head of an answer (`bytes` ends with the empty line).
///
/// # Errors
/// `ProtocolMismatch`, `BadResponse`, with nginx's phrase.
pub fn parse_response(bytes: &[u8]) -> Result<ResponseHead, Fault> {
    let line_end = memchr(b'\n', bytes).map_or(bytes.len(), |i| i + 1);
    let line = strip_line_end(&bytes[..line_end]);
    let mismatch = || {
        Fault::new(FaultKind::ProtocolMismatch, format!("the answer begins with {:?}, not with an HTTP status line", printable(line, 40)))
    };
    let version = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', ..] if minor.is_ascii_digit() => {
            if *minor == b'0' {
                Version::Http10
            } else {
                Version::Http11
            }
        }
        _ => return Err(mismatch()),
    };
    let rest = &line[9..];
    if rest.len() < 3 || !rest[..3].iter().all(u8::is_ascii_digit) || rest.get(3).is_some_and(|&b| b != b' ') {
        return Err(mismatch());
    }
    let status = rest[..3].iter().fold(0u16, |sum, &b| sum * 10 + u16::from(b - b'0'));
    if status < 100 {
        return Err(mismatch());
    }
    let reason = rest.get(4..).unwrap_or_default();
    if reason.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(bad_response(reason));
    }
    let mut head = ResponseHead {
        version,
        status,
        reason: reason.to_vec(),
        headers: Headers::with_capacity(16, bytes.len() - line_end),
        framing: Framing::UntilClose,
        keep_alive: version == Version::Http11,
        nominated: Vec::new(),
    };
    let mut length = None;
    let mut is_chunked = false;
    let mut position = line_end;
    while position < bytes.len() {
        let end = memchr(b'\n', &bytes[position..]).map_or(bytes.len(), |offset| position + offset + 1);
        let line = strip_line_end(&bytes[position..end]);
        position = end;
        if line.is_empty() {
            break;
        }
        let Ok((name, value)) = split_field(line) else { return Err(bad_response(line)) };
        if name.len() == line.len() {
            return Err(bad_response(line));
        }
        if head.headers.len() >= FIELD_COUNT_LIMIT {
            return Err(FaultKind::ResponseHeaderTooLarge.into());
        }
        head.headers.add(name, value);
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for token in value.split(|&b| b == b',') {
                    let token = token.trim_ascii();
                    if token.eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        head.keep_alive = true;
                    } else if !token.is_empty() {
                        head.nominated.push(String::from_utf8_lossy(token).to_ascii_lowercase());
                    }
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let Some(value_bytes) = parse_length(value) else {
                    let text = printable(line, 80);
                    return Err(Fault::with_phrase(
                        FaultKind::BadResponse,
                        "Content-Length is no number",
                        format!("upstream sent invalid \"Content-Length\" header: \"{text}\""),
                    ));
                };
                if let Some(previous) = length.replace(value_bytes) {
                    return Err(Fault::with_phrase(
                        FaultKind::BadResponse,
                        "the answer has two Content-Length fields",
                        format!(
                            "upstream sent duplicate header line: \"{}\", previous value: \"Content-Length: {previous}\"",
                            printable(line, 80)
                        ),
                    ));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if is_chunked {
                    return Err(Fault::with_phrase(
                        FaultKind::BadResponse,
                        "the answer has two Transfer-Encoding fields",
                        format!(
                            "upstream sent duplicate header line: \"{}\", previous value: \"Transfer-Encoding: chunked\"",
                            printable(line, 80)
                        ),
                    ));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::with_phrase(
                        FaultKind::BadResponse,
                        "the answer's Transfer-Encoding is not `chunked` alone",
                        format!("upstream sent unknown \"Transfer-Encoding\": \"{}\"", printable(value, 80)),
                    ));
                }
                is_chunked = true;
            }
            _ => {}
        }
    }
    if is_chunked && length.is_some() {
        return Err(Fault::with_phrase(
            FaultKind::BadResponse,
            "the answer has both Content-Length and Transfer-Encoding",
            "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time".to_owned(),
        ));
    }
    head.framing = if status < 200 || status == 204 || status == 304 {
        Framing::None
    } else if is_chunked {
        Framing::Chunked
    } else {
        length.map_or(Framing::UntilClose, Framing::Length)
    };
    Ok(head)
}

/// nginx quotes the line up to the first byte it could not take.
fn bad_response(line: &[u8]) -> Fault {
    let end_of_name = line.iter().position(|&b| !TOKEN[b as usize]).unwrap_or(line.len());
    // A value may be a secret: it stands in no log, so after a whole name nginx's quotation is cut short.
    let (value, byte) = match line.get(end_of_name) {
        Some(b':') => (": ***", line.iter().find(|&&b| (b < b' ' && b != b'\t') || b == 0x7f)),
        other => ("", other),
    };
    let name = printable(&line[..end_of_name], 80);
    let quoted = byte.map_or_else(|| "\\x0a".to_owned(), |b| format!("\\x{b:02x}"));
    Fault::with_phrase(
        FaultKind::BadResponse,
        format!("a field line that HTTP does not allow: `{name}{value}`, then the byte {quoted}"),
        format!("upstream sent invalid header: \"{name}{value}{quoted}...\""),
    )
}

/// Bytes as log text: printable ASCII as it is, the rest as `\xHH`, cut to `limit` bytes.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(limit) + 8);
    escape_into(&mut text, &bytes[..bytes.len().min(limit)]);
    if bytes.len() > limit {
        text.push_str("...");
    }
    text
}

/// Appends bytes as nginx writes them in logs: `"`, `\`, control and non-ASCII bytes as `\xHH`.
pub fn escape_into(text: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|&b| !PLAIN[b as usize]).unwrap_or(rest.len());
        // Nearly all of it in one piece; plain bytes are ASCII.
        text.push_str(std::str::from_utf8(&rest[..plain]).unwrap_or_default());
        let Some(byte) = rest.get(plain) else { return };
        let _ = write!(text, "\\x{byte:02X}");
        rest = &rest[plain + 1..];
    }
}

/// The bytes that logs show as they are.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<RequestFields, FaultKind> {
        parse_request_fields(text.as_bytes(), Version::Http11, 8192).map_err(|(fault, _)| fault.kind)
    }

    #[test]
    fn test_head_ends_at_the_empty_line_however_it_arrives() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        assert_eq!(find_end(head, 0), Some(27));
        for cut in 0..27 {
            assert_eq!(find_end(&head[..cut], 0), None, "cut at {cut}");
            assert_eq!(find_end(head, cut), Some(27), "resumed at {cut}");
        }
        assert_eq!(find_end(b"a\n\nb", 0), Some(3));
    }

    #[test]
    fn test_request_lines() {
        assert_eq!(parse_request_line(b"GET /a?b HTTP/1.1").map(|l| l.version), Ok(Version::Http11));
        assert_eq!(parse_request_line(b"GET /a").map(|l| l.version), Ok(Version::Http09));
        for (line, kind) in [
            (&b"GARBAGE"[..], FaultKind::BadFraming),
            (b"get / HTTP/1.1", FaultKind::BadFraming),
            (b"GET  / HTTP/1.1", FaultKind::BadFraming),
            (b"GET / HTTP/1.1 ", FaultKind::BadFraming),
            (b"GET /a b HTTP/1.1", FaultKind::BadFraming),
            (b"GET /\x00 HTTP/1.1", FaultKind::BadFraming),
            (b"POST /a", FaultKind::BadFraming),
            (b"GET / HTTP/2.0", FaultKind::VersionNotSupported),
            (b"GET / HTTP/3.9", FaultKind::VersionNotSupported),
            (b"GET / HTTP/1.10", FaultKind::BadFraming),
        ] {
            assert_eq!(parse_request_line(line).map_err(|f| f.kind), Err(kind), "{}", printable(line, 40));
        }
    }

    #[test]
    fn test_request_smuggling_by_framing_fields_is_refused() {
        for text in [
            "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "Host: a\r\nContent-Length: +3\r\n\r\n",
            "Host: a\r\nContent-Length: 3, 3\r\n\r\n",
            "Host: a\r\nContent-Length: 0x3\r\n\r\n",
            "Host: a\r\nContent-Length:\r\n\r\n",
            "Host: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "Host: a\r\n Transfer-Encoding: chunked\r\n\r\n",
            "Host: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Host: a\r\nTransfer_Encoding: chunked\r\n\r\n",
            "Host: a\r\nContent_Length: 3\r\n\r\n",
            "Host: a\r\nHost: a\r\n\r\n",
            "X: a\r\n\r\n",
            "Host: a\r\nX: b\rc\r\n\r\n",
            "Host: a\r\nX: b\0c\r\n\r\n",
            "Host: a\r\nX\0: b\r\n\r\n",
            "Host: a\r\nX: b\r\r\n\r\n",
            "Host: a\r\nContent-Length: \x0c3\r\n\r\n",
            "Host: a\r\nTransfer-Encoding: \rchunked\r\n\r\n",
        ] {
            assert_eq!(fields(text).err(), Some(FaultKind::BadFraming), "{text:?}");
        }
        for text in ["gzip", "xchunked", "chunked, identity", "identity, chunked", "chunked;q=1", "\"chunked\"", "chunked,"] {
            let head = format!("Host: a\r\nTransfer-Encoding: {text}\r\n\r\n");
            assert_eq!(fields(&head).err(), Some(FaultKind::TransferEncodingNotSupported), "{text}");
        }
    }

    #[test]
    fn test_a_line_without_a_colon_is_a_name_with_an_empty_value() {
        let parsed = fields("Host: a\r\nnocolon\r\n\r\n").expect("nginx and Kong take it");
        assert_eq!(parsed.headers.get("nocolon"), Some(&b""[..]));
    }

    #[test]
    fn test_answers_that_are_ambiguous_are_refused_with_the_phrase_of_nginx() {
        for (text, phrase) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
                "upstream sent duplicate header line: \"Content-Length: 3\", previous value: \"Content-Length: 2\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
            ),
            ("HTTP/1.1 200 OK\r\nBad Header\0Name: x\r\n\r\n", "upstream sent invalid header: \"Bad\\x20...\""),
            ("HTTP/1.1 200 OK\r\nSet-Cookie: a=secret\x01\r\n\r\n", "upstream sent invalid header: \"Set-Cookie: ***\\x01...\""),
            ("HTTP/1.1 200 OK\r\nSet-Cookie : a=secret\r\n\r\n", "upstream sent invalid header: \"Set-Cookie\\x20...\""),
            ("this is not http\r\n\r\n", "upstream sent no valid HTTP/1.0 header"),
        ] {
            assert_eq!(parse_response(text.as_bytes()).err().map(|f| f.phrase().to_owned()), Some(phrase.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn test_authorities() {
        assert_eq!(parse_authority(b"a:80"), Some(("a".into(), Some(80))));
        assert_eq!(parse_authority(b"[::1]:80"), Some(("[::1]".into(), Some(80))));
        for bad in ["", "a b", "a:b", "a:99999", "a/b", "a@b", "[::1", "a:80:80", "a\u{0}"] {
            assert_eq!(parse_authority(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// No input may panic the parser, and what it accepts must be read the same way when written anew.
    #[test]
    fn test_mutated_heads_never_panic_and_read_back_the_same() {
        let seed = b"POST /a?b=c HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 12\r\nConnection: x, close\r\nX-Y: z z\r\n\r\n";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut accepted = 0;
        for _ in 0..200_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..=next() % 4 {
                let at = (next() as usize) % bytes.len();
                match next() % 4 {
                    0 => bytes[at] = next() as u8,
                    1 => {
                        bytes.remove(at);
                    }
                    2 => bytes.insert(at, b" \t\r\n:\0,;Tt"[(next() % 10) as usize]),
                    _ => {
                        let other = (next() as usize) % bytes.len();
                        bytes.swap(at, other);
                    }
                }
            }
            let Some(end) = find_end(&bytes, 0) else { continue };
            let line_end = memchr(b'\n', &bytes).expect("a head has a line") + 1;
            let _ = parse_response(&bytes[..end]);
            let Ok(line) = parse_request_line(strip_line_end(&bytes[..line_end])) else { continue };
            if let Ok(parsed) = parse_request_fields(&bytes[line_end..end], line.version, 8192) {
                accepted += 1;
                let mut anew = Vec::new();
                parsed.headers.write_to(&mut anew);
                anew.extend_from_slice(b"\r\n");
                let again = parse_request_fields(&anew, line.version, 1 << 20).expect("what we write we can read");
                assert_eq!(format!("{:?}", parsed.headers), format!("{:?}", again.headers));
                assert_eq!((parsed.content_length, parsed.is_chunked), (again.content_length, again.is_chunked));
            }
        }
        assert!(accepted > 1000, "the mutations must leave some heads whole: {accepted}");
    }
}
