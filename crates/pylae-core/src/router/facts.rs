// SPDX-License-Identifier: Apache-2.0
//! What is known of a request or a stream, field by field? What takes work to find is found once, when first asked for.

use super::{RequestView, StreamView};
use crate::http::headers::Headers;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

/// Query arguments looked at; Kong's default of `lua_max_uri_args`.
const ARGUMENT_LIMIT: usize = 100;
/// Segments whose places are kept without allocation.
const SEGMENTS_AT_HAND: usize = 8;

/// The fields of one request or stream.
pub(super) struct Facts<'a> {
    pub(super) protocol: &'static str,
    pub(super) sni: Option<&'a [u8]>,
    pub(super) method: Option<&'a [u8]>,
    /// Without port; none if the request names no host.
    pub(super) host: Option<&'a [u8]>,
    /// Normalised.
    pub(super) path: Option<&'a [u8]>,
    headers: Option<&'a Headers>,
    query: Option<&'a [u8]>,
    pub(super) source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
    segments: OnceCell<Segments>,
    arguments: OnceCell<Arguments<'a>>,
}

/// The fields of a request, gathered when first asked for: most matches look at host and path alone.
pub(super) struct LazyFacts<'a> {
    view: &'a RequestView<'a>,
    facts: OnceCell<Facts<'a>>,
}

impl<'a> LazyFacts<'a> {
    #[inline]
    pub(super) fn new(view: &'a RequestView<'a>) -> Self {
        LazyFacts { view, facts: OnceCell::new() }
    }

    #[inline]
    pub(super) fn view(&self) -> &'a RequestView<'a> {
        self.view
    }

    #[inline]
    pub(super) fn get(&self) -> &Facts<'a> {
        self.facts.get_or_init(|| Facts::of_request(self.view))
    }
}

/// Name and value of each argument, decoded.
type Arguments<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

/// Where the segments of a path begin and end.
struct Segments {
    count: usize,
    first: [(u32, u32); SEGMENTS_AT_HAND],
    more: Vec<(u32, u32)>,
}

impl<'a> Facts<'a> {
    #[inline]
    pub(super) fn of_request(view: &RequestView<'a>) -> Self {
        Facts {
            protocol: if view.is_https { "https" } else { "http" },
            sni: view.sni,
            method: Some(view.method),
            host: Some(view.host).filter(|host| !host.is_empty()),
            path: Some(view.path),
            headers: Some(view.headers),
            query: view.query,
            source: (view.source.ip(), view.source.port()),
            destination: (view.local_address, view.host_port.unwrap_or(view.listen_port)),
            segments: OnceCell::new(),
            arguments: OnceCell::new(),
        }
    }

    pub(super) fn of_stream(view: &StreamView<'a>) -> Self {
        Facts {
            protocol: view.protocol_name(),
            sni: view.sni,
            method: None,
            host: None,
            path: None,
            headers: None,
            query: None,
            source: (view.source.ip(), view.source.port()),
            destination: (view.destination.ip(), view.destination.port()),
            segments: OnceCell::new(),
            arguments: OnceCell::new(),
        }
    }

    /// Values of the header, in order. Hyphens and underscores of names are the same: the language has no hyphens.
    pub(super) fn header_values<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> + 'b {
        self.headers.into_iter().flat_map(move |headers| header_values(headers, name))
    }

    /// Values of the query argument, in order; one without `=` is empty.
    pub(super) fn argument_values<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + 'b {
        let arguments = self.arguments.get_or_init(|| read_arguments(self.query.unwrap_or_default()));
        arguments.iter().filter(move |(found, _)| **found == *name).map(|(_, value)| &**value)
    }

    /// Number of segments of the path.
    pub(super) fn segment_count(&self) -> Option<i64> {
        Some(self.segments(self.path?).count as i64)
    }

    /// The segments from `first` to `last`, with the slashes between them.
    pub(super) fn segment_range(&self, first: u32, last: u32) -> Option<&'a [u8]> {
        let path = self.path?;
        let segments = self.segments(path);
        let (start, _) = segments.place(first as usize)?;
        let (_, end) = segments.place(last as usize)?;
        path.get(start as usize..end as usize)
    }

    fn segments(&self, path: &[u8]) -> &Segments {
        self.segments.get_or_init(|| Segments::of(path))
    }
}

impl Segments {
    fn of(path: &[u8]) -> Self {
        let mut segments = Segments { count: 0, first: [(0, 0); SEGMENTS_AT_HAND], more: Vec::new() };
        let mut start = 0;
        for segment in path.split(|byte| *byte == b'/') {
            let end = start + segment.len();
            if !segment.is_empty() {
                let place = (start as u32, end as u32);
                match segments.first.get_mut(segments.count) {
                    Some(slot) => *slot = place,
                    None => segments.more.push(place),
                }
                segments.count += 1;
            }
            start = end + 1;
        }
        segments
    }

    fn place(&self, at: usize) -> Option<(u32, u32)> {
        match at.checked_sub(SEGMENTS_AT_HAND) {
            None => (at < self.count).then(|| self.first[at]),
            Some(at) => self.more.get(at).copied(),
        }
    }
}

fn read_arguments(query: &[u8]) -> Arguments<'_> {
    let pieces = query.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()).take(ARGUMENT_LIMIT);
    let halves = pieces.map(|piece| match memchr::memchr(b'=', piece) {
        Some(at) => (&piece[..at], &piece[at + 1..]),
        None => (piece, &piece[piece.len()..]),
    });
    halves.filter(|(name, _)| !name.is_empty()).map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Undoes `+` and percent escapes; a malformed escape stays as it is.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let digit = |at: usize| text.get(at).and_then(|digit| (*digit as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

/// Values of the fields of this name, in order; in a name with an underscore hyphens and underscores are the same.
#[inline]
pub(super) fn header_values<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
    let is_folded = name.contains('_');
    let is_named = move |found: &[u8]| {
        let folded = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
        found.len() == name.len()
            && (found.eq_ignore_ascii_case(name.as_bytes())
                || is_folded && found.iter().zip(name.bytes()).all(|(left, right)| folded(*left) == folded(right)))
    };
    headers.iter().filter(move |(found, _)| is_named(found)).map(|(_, value)| value)
}

/// Lower case by Unicode, if it is UTF-8.
pub(super) fn lower(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return Cow::Borrowed(value);
    }
    match std::str::from_utf8(value) {
        Ok(text) => text.to_lowercase().into_bytes().into(),
        Err(_) => value.to_ascii_lowercase().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<&str> {
        let segments = Segments::of(path.as_bytes());
        let places = (0..segments.count).map(|at| segments.place(at).expect("a place"));
        places.map(|(start, end)| &path[start as usize..end as usize]).collect()
    }

    #[test]
    fn segments_are_counted_without_slashes_at_the_ends() {
        assert_eq!(segments("/a/b/c/"), ["a", "b", "c"]);
        assert_eq!(segments("/a/b/c"), ["a", "b", "c"]);
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("*"), ["*"]);
        assert_eq!(segments("/1/2/3/4/5/6/7/8/9/10").len(), 10);
        assert_eq!(Segments::of(b"/a").place(1), None);
    }

    #[test]
    fn arguments_are_decoded() {
        let read = |query: &'static str| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            read_arguments(query.as_bytes()).iter().map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read("a=1&b=x%20y+z&a=2"), [pair("a", "1"), pair("b", "x y z"), pair("a", "2")]);
        assert_eq!(read("a&b=&=c&&d=e=f"), [pair("a", ""), pair("b", ""), pair("d", "e=f")]);
        assert_eq!(read("a=%zz%4&%41=1"), [pair("a", "%zz%4"), pair("A", "1")]);
        assert_eq!(read_arguments("a&".repeat(500).as_bytes()).len(), ARGUMENT_LIMIT);
    }
}
