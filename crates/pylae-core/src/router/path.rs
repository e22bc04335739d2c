// SPDX-License-Identifier: Apache-2.0
//! Which path is matched, and which goes upstream?

use crate::snapshot::model::PathHandling;
use std::borrow::Cow;
use std::fmt;

/// Why a request's path is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// Dot segments lead above the root.
    AboveRoot,
    /// `%` is not followed by two hexadecimal digits.
    BadEscape,
    /// The path holds a NUL byte, plain or escaped.
    Nul,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::AboveRoot => "the path leads above the root",
            PathError::BadEscape => "the path has a malformed percent escape",
            PathError::Nul => "the path has a NUL byte",
        })
    }
}

impl std::error::Error for PathError {}

/// Characters whose escaped form means something else than the plain one (RFC 3986 §2.2, and `%` itself).
fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*' | b'\'' | b'(' | b')' | b';' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'/' | b'?' | b'%' | b'#' | b'[' | b']'
    )
}

/// May the byte stand plain in a path that goes upstream?
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') || is_reserved(byte)
}

fn hex_value(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// The byte an escape at `at` stands for.
fn escape_at(path: &[u8], at: usize) -> Result<u8, PathError> {
    let digit = |offset: usize| path.get(at + offset).copied().and_then(hex_value).ok_or(PathError::BadEscape);
    Ok(digit(1)? << 4 | digit(2)?)
}

/// The path that Routes are compared with: escapes of anything but reserved characters are undone, those that stay have upper-case
/// digits, dot segments are resolved (RFC 3986 §5.2.4), repeated slashes merged. A path that is already so is only borrowed.
///
/// `path` is the request target without its query, undecoded.
///
/// # Errors
/// What a client must not send: see [`PathError`]. As nginx does, escaped slashes and dots count when it is decided whether the path
/// leaves the root.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let decoded = decode(path)?;
    refuse_above_root(path)?;
    Ok(Cow::Owned(resolve_segments(&decoded)))
}

/// Nothing to decode, merge or resolve?
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        if matches!(byte, b'%' | 0) || previous == b'/' && matches!(byte, b'.' | b'/') {
            return false;
        }
        previous = byte;
    }
    true
}

fn decode(path: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        if path[at] == b'%' {
            let byte = escape_at(path, at)?;
            if byte == 0 {
                return Err(PathError::Nul);
            }
            if is_reserved(byte) {
                push_escape(&mut out, byte);
            } else {
                out.push(byte);
            }
            at += 3;
        } else {
            out.push(path[at]);
            at += 1;
        }
    }
    Ok(out)
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Counts depth over the wholly decoded path.
fn refuse_above_root(path: &[u8]) -> Result<(), PathError> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        if path[at] == b'%' {
            decoded.push(escape_at(path, at)?);
            at += 3;
        } else {
            decoded.push(path[at]);
            at += 1;
        }
    }
    let mut depth = 0i64;
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return Err(PathError::AboveRoot);
        }
    }
    Ok(())
}

fn resolve_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut starts = Vec::new();
    let mut ends_with_slash = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        ends_with_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => out.truncate(starts.pop().unwrap_or(0)),
            _ => {
                starts.push(out.len());
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if ends_with_slash {
        out.push(b'/');
    }
    out
}

/// The path as it may stand on the wire: what [`normalise`] decoded beyond the unreserved characters is escaped again.
pub fn escape(path: &[u8]) -> Cow<'_, [u8]> {
    if path.iter().all(|byte| is_plain(*byte)) {
        return Cow::Borrowed(path);
    }
    let mut out = Vec::with_capacity(path.len() + 16);
    for &byte in path {
        if is_plain(byte) {
            out.push(byte);
        } else {
            push_escape(&mut out, byte);
        }
    }
    Cow::Owned(out)
}

/// The path of the request upstream, escaped, without the query.
///
/// `service_path` is the Service's own (`/` when it has none), `request_path` the normalised one, `matched` the length of what the
/// Route's path matched (none if the Route has no paths). The handling is that of the match, not of the Route: only `traditional` heeds it.
pub fn upstream_path(
    service_path: Option<&str>,
    request_path: &[u8],
    matched: Option<usize>,
    strip_path: bool,
    path_handling: PathHandling,
) -> Vec<u8> {
    let base = service_path.unwrap_or("/").as_bytes();
    let joined = if strip_path {
        let leftover = request_path.get(matched.unwrap_or(1)..).unwrap_or_default();
        let leftover = without_dot_segment(leftover);
        match path_handling {
            PathHandling::V0 => join_leftover(base, request_path, leftover),
            PathHandling::V1 => join_as_written(base, leftover),
        }
    } else {
        match path_handling {
            PathHandling::V0 => join_request(base, request_path),
            PathHandling::V1 => [base, request_path.strip_prefix(b"/").unwrap_or(request_path)].concat(),
        }
    };
    match escape(&joined) {
        Cow::Borrowed(_) => joined,
        Cow::Owned(escaped) => escaped,
    }
}

/// A prefix such as `/a` may end before a dot: `/a..` must not become a dot segment upstream.
fn without_dot_segment(leftover: &[u8]) -> &[u8] {
    match leftover {
        b"." | b".." => b"",
        _ => leftover.strip_prefix(b"./").or_else(|| leftover.strip_prefix(b"../")).unwrap_or(leftover),
    }
}

fn join_leftover(base: &[u8], request_path: &[u8], leftover: &[u8]) -> Vec<u8> {
    let request_ends_with_slash = request_path.ends_with(b"/");
    if let Some(base_without_slash) = base.strip_suffix(b"/") {
        match leftover {
            [] if base == b"/" || request_ends_with_slash => base.to_vec(),
            [] => base_without_slash.to_vec(),
            [b'/', ..] => [base_without_slash, leftover].concat(),
            _ => [base, leftover].concat(),
        }
    } else {
        match leftover {
            [] if request_path.len() > 1 && request_ends_with_slash => [base, b"/"].concat(),
            [] => base.to_vec(),
            [b'/', ..] => [base, leftover].concat(),
            _ => [base, b"/", leftover].concat(),
        }
    }
}

fn join_request(base: &[u8], request_path: &[u8]) -> Vec<u8> {
    if base.ends_with(b"/") {
        [base, request_path.strip_prefix(b"/").unwrap_or(request_path)].concat()
    } else if request_path == b"/" {
        base.to_vec()
    } else {
        [base, request_path].concat()
    }
}

fn join_as_written(base: &[u8], leftover: &[u8]) -> Vec<u8> {
    match (base, leftover) {
        ([kept @ .., b'/'], [b'/', ..]) => [kept, leftover].concat(),
        _ => [base, leftover].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> String {
        String::from_utf8(normalise(path.as_bytes()).expect("a path").into_owned()).expect("UTF-8")
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "", "/a/b", "/a.b/c..d", "/a/b/", "/a-b_c~d", "*"] {
            assert!(matches!(normalise(path.as_bytes()), Ok(Cow::Borrowed(same)) if same == path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn dots_and_slashes_are_resolved() {
        for (path, expected) in [
            ("/good/a//b/../c%2Fd%20e", "/good/a/c%2Fd e"),
            ("//", "/"),
            ("/a//b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a//../b", "/b"),
            ("/a/...", "/a/..."),
            ("/.a", "/.a"),
            ("/..a/b", "/..a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%2e", "/"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn escapes_of_reserved_characters_stay_with_upper_case_digits() {
        assert_eq!(normal("/%61%7E%7e%2f%2F%3f%25"), "/a~~%2F%2F%3F%25");
        assert_eq!(normal("/%7Bid%7D"), "/{id}");
        assert_eq!(normalise(b"/%ff").expect("a path").as_ref(), b"/\xff");
    }

    #[test]
    fn what_leaves_the_root_is_refused() {
        for path in ["/..", "/../good", "/a/../..", "/a/../../b", "/%2e%2e/x", "/%2F..%2F../x", "/a/..%2f../b", "/.//../x"] {
            assert_eq!(normalise(path.as_bytes()), Err(PathError::AboveRoot), "{path}");
        }
        assert_eq!(normal("/a/..%2fb"), "/a/..%2Fb");
    }

    #[test]
    fn bad_escapes_and_nul_are_refused() {
        for path in ["/%", "/%2", "/%zz", "/a%2xb"] {
            assert_eq!(normalise(path.as_bytes()), Err(PathError::BadEscape), "{path}");
        }
        assert_eq!(normalise(b"/%00"), Err(PathError::Nul));
        assert_eq!(normalise(b"/\0"), Err(PathError::Nul));
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        let pieces = ["/", "//", ".", "..", "a", "%2e", "%2F", "%20", "%25", "b/"];
        for number in 0..100_000usize {
            let mut rest = number;
            let mut path = String::from("/");
            for _ in 0..5 {
                path.push_str(pieces[rest % pieces.len()]);
                rest /= pieces.len();
            }
            if let Ok(once) = normalise(path.as_bytes()) {
                assert_eq!(normalise(&once).expect("still a path"), once, "{path}");
                assert!(once.starts_with(b"/") && !once.windows(2).any(|pair| pair == b"//"));
                assert!(!once.split(|byte| *byte == b'/').any(|segment| segment == b".." || segment == b"."));
                assert_eq!(normalise(&escape(&once)).expect("still a path"), once, "{path}");
            }
        }
    }

    #[test]
    fn what_was_decoded_is_escaped_again() {
        assert_eq!(escape(b"/a/c%2Fd e").as_ref(), b"/a/c%2Fd%20e");
        assert_eq!(escape(b"/{a}|\"<>\\^`\xff\n").as_ref(), b"/%7Ba%7D%7C%22%3C%3E%5C%5E%60%FF%0A");
        assert!(matches!(escape(b"/!#$&'()*+,/:;=?@[]-._~%aZ09"), Cow::Borrowed(_)));
    }

    /// Every row of the table of v0, with the request path and the matched length that lead there.
    #[test]
    fn v0_joins_as_the_table_says() {
        let v0 = |base: &str, request: &str, matched: Option<usize>, strip: bool| {
            String::from_utf8(upstream_path(Some(base), request.as_bytes(), matched, strip, PathHandling::V0)).expect("UTF-8")
        };
        // P ends with /, stripped, nothing left
        assert_eq!(v0("/", "/fo", Some(3), true), "/");
        assert_eq!(v0("/s/", "/fo/", Some(4), true), "/s/");
        assert_eq!(v0("/s/", "/fo", Some(3), true), "/s");
        // P ends with /, stripped, a slash is left first
        assert_eq!(v0("/s/", "/fo/o", Some(3), true), "/s/o");
        assert_eq!(v0("/", "/fo/", Some(3), true), "/");
        // P ends with /, stripped, something else is left
        assert_eq!(v0("/s/", "/foo", Some(3), true), "/s/o");
        // P ends with /, kept
        assert_eq!(v0("/s/", "/foo", Some(3), false), "/s/foo");
        assert_eq!(v0("/", "/foo", Some(3), false), "/foo");
        // P without /, stripped, nothing left
        assert_eq!(v0("/s", "/fo/", Some(4), true), "/s/");
        assert_eq!(v0("/s", "/fo", Some(3), true), "/s");
        assert_eq!(v0("/s", "/", Some(1), true), "/s");
        // P without /, stripped, a slash is left first
        assert_eq!(v0("/s", "/fo/o", Some(3), true), "/s/o");
        // P without /, stripped, something else is left: the example of the table
        assert_eq!(v0("/s", "/foo", Some(3), true), "/s/o");
        // P without /, kept
        assert_eq!(v0("/s", "/", Some(1), false), "/s");
        assert_eq!(v0("/s", "/foo", Some(3), false), "/s/foo");
    }

    #[test]
    fn v1_joins_as_written() {
        let v1 = |base: &str, request: &str, matched: usize, strip: bool| {
            String::from_utf8(upstream_path(Some(base), request.as_bytes(), Some(matched), strip, PathHandling::V1)).expect("UTF-8")
        };
        assert_eq!(v1("/s", "/foo", 3, true), "/so");
        assert_eq!(v1("/s/", "/fo/o", 3, true), "/s/o");
        assert_eq!(v1("/s", "/fo/o", 3, true), "/s/o");
        assert_eq!(v1("/s/", "/foo", 3, true), "/s/o");
        assert_eq!(v1("/s", "/foo", 3, false), "/sfoo");
        assert_eq!(v1("/s/", "/foo", 3, false), "/s/foo");
    }

    #[test]
    fn a_leftover_dot_segment_is_dropped() {
        let v0 = |request: &str| {
            String::from_utf8(upstream_path(Some("/s"), request.as_bytes(), Some(3), true, PathHandling::V0)).expect("UTF-8")
        };
        assert_eq!(v0("/fo."), "/s");
        assert_eq!(v0("/fo.."), "/s");
        assert_eq!(v0("/fo./x"), "/s/x");
        assert_eq!(v0("/fo../x"), "/s/x");
        assert_eq!(v0("/fo.x"), "/s/.x");
    }

    #[test]
    fn a_route_without_paths_keeps_the_whole_path() {
        for (base, request, expected) in
            [(None, "/foo", "/foo"), (Some("/s"), "/foo/", "/s/foo/"), (Some("/s"), "/", "/s"), (None, "/", "/")]
        {
            let path = upstream_path(base, request.as_bytes(), None, true, PathHandling::V0);
            assert_eq!(String::from_utf8(path).expect("UTF-8"), expected);
        }
    }

    #[test]
    fn the_path_upstream_is_escaped() {
        assert_eq!(upstream_path(None, b"/good/a/c%2Fd e", Some(5), true, PathHandling::V0), b"/a/c%2Fd%20e");
    }
}
