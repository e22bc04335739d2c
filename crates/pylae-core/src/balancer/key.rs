// SPDX-License-Identifier: Apache-2.0
//! What of a request decides which Target it goes to? `hash_on`, else `hash_fallback`.

use crate::exchange::Exchange;
use crate::snapshot::hash::FoldHasher;
use crate::snapshot::model::{HashOn, Upstream};
use std::borrow::Cow;
use std::hash::Hasher;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// These bytes.
    Found(Cow<'a, [u8]>),
    /// The cookie is missing: a new one is to be made, and set.
    NewCookie,
    /// Nothing: all such requests go to one Target.
    Nothing,
}

/// The hash of a key.
pub fn hash(key: &[u8]) -> u64 {
    let mut hasher = FoldHasher::default();
    hasher.write(key);
    hasher.write_usize(key.len());
    super::mix(hasher.finish())
}

/// The key of a request.
pub fn of<'a>(upstream: &'a Upstream, exchange: &'a Exchange) -> Key<'a> {
    let first = (upstream.hash_on, &upstream.hash_on_header, &upstream.hash_on_query_arg, &upstream.hash_on_uri_capture);
    let second =
        (upstream.hash_fallback, &upstream.hash_fallback_header, &upstream.hash_fallback_query_arg, &upstream.hash_fallback_uri_capture);
    for (on, header, query_arg, uri_capture) in [first, second] {
        let found: Option<Cow<'a, [u8]>> = match on.unwrap_or(HashOn::None) {
            HashOn::None => None,
            HashOn::Consumer => exchange.consumer_id.or(exchange.credential_id).map(|id| id.0.to_vec().into()),
            HashOn::Ip => Some(exchange.client_ip.to_string().into_bytes().into()),
            HashOn::Header => header.as_deref().and_then(|name| header_of(exchange, name)),
            HashOn::Cookie => match upstream.hash_on_cookie.as_deref().map(|name| cookie_of(exchange, name)) {
                Some(Some(value)) => Some(value.into()),
                Some(None) => return Key::NewCookie,
                None => None,
            },
            HashOn::Path => Some(exchange.request.path.as_slice().into()),
            HashOn::QueryArg => query_arg.as_deref().and_then(|name| query_of(exchange.request.query.as_deref()?, name)).map(Cow::Owned),
            HashOn::UriCapture => uri_capture.as_deref().and_then(|name| capture_of(exchange, name)).map(Cow::Borrowed),
        };
        if let Some(found) = found {
            return Key::Found(found);
        }
    }
    Key::Nothing
}

/// All values of a header, one after the other.
fn header_of<'a>(exchange: &'a Exchange, name: &str) -> Option<Cow<'a, [u8]>> {
    if name.eq_ignore_ascii_case("host") {
        return Some(exchange.request.authority.as_slice().into());
    }
    let headers = exchange.upstream_headers();
    let first = headers.get(name)?;
    let values: Vec<u8> =
        headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes())).flat_map(|(_, v)| v).copied().collect();
    Some(if values.len() == first.len() { first.into() } else { values.into() })
}

fn cookie_of<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a [u8]> {
    let cookies = exchange.request.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(b"cookie"));
    cookies.flat_map(|(_, value)| value.split(|&byte| byte == b';')).find_map(|pair| {
        let (key, value) = pair.trim_ascii_start().split_at_checked(name.len())?;
        (key == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten().map(<[u8]>::trim_ascii_end)
    })
}

fn capture_of<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a [u8]> {
    exchange.matched.as_ref()?.captures.as_ref()?.name(name)
}

/// The values of a query argument, decoded, sorted, one after the other; an argument without `=` is `true`, as in Kong.
fn query_of(query: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = query
        .split(|&byte| byte == b'&')
        .filter_map(|pair| {
            let (key, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], Some(&pair[at + 1..])),
                None => (pair, None),
            };
            (decoded(key) == name.as_bytes()).then(|| value.map_or_else(|| b"true".to_vec(), decoded))
        })
        .collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.concat())
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| (byte as char).to_digit(16)).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, digit(text.get(at)), digit(text.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_a_query_argument_is_decoded_sorted_and_joined() {
        assert_eq!(query_of(b"a=2&b=3&a=%31", "a"), Some(b"12".to_vec()));
        assert_eq!(query_of(b"a+b=x%2", "a b"), Some(b"x%2".to_vec()));
        assert_eq!(query_of(b"flag&x=1", "flag"), Some(b"true".to_vec()));
        assert_eq!(query_of(b"a=", "a"), Some(Vec::new()));
        assert_eq!(query_of(b"aa=1", "a"), None);
    }

    #[test]
    fn test_hashes_of_like_keys_differ() {
        let mut hashes: Vec<u64> = (0..10_000).map(|number| hash(format!("key-{number}").as_bytes())).collect();
        hashes.extend([hash(b""), hash(b"\0"), hash(b"\0\0")]);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 10_003);
    }
}
