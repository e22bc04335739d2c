// SPDX-License-Identifier: Apache-2.0
//! Which name is meant, and under which full names is it looked for?

use std::borrow::Cow;

/// Longest name, without its last dot (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The name as it is known here: lower case; whether it ends with a dot, and so is whole, is kept.
pub(super) fn normalise(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

/// The name without the dot at its end.
pub(super) fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What is wrong with a name; `None`: it may be asked for.
pub(super) fn flaw(name: &str) -> Option<&'static str> {
    let name = bare(name);
    if name.is_empty() {
        return Some("the name is empty");
    }
    if name.len() > LONGEST_NAME {
        return Some("the name is longer than 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("a label is empty");
        }
        if label.len() > LONGEST_LABEL {
            return Some("a label is longer than 63 characters");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Some("a label holds a character that is neither letter, digit, `-` nor `_`");
        }
    }
    None
}

/// Is it `_service._protocol.…`?
pub(super) fn is_service(name: &str) -> bool {
    let mut labels = name.split('.');
    let begins = |label: Option<&str>| label.is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    begins(labels.next()) && begins(labels.next()) && labels.next().is_some_and(|rest| !rest.is_empty())
}

/// The full names under which a name is looked for, in order, without a dot at the end: with at least `ndots` dots the name itself
/// goes first, else the search domains do. With a dot at its end it is whole already.
pub(super) fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![bare(name).to_owned()];
    }
    let is_first = name.bytes().filter(|&byte| byte == b'.').count() >= ndots;
    let within = search.iter().map(|domain| format!("{name}.{domain}")).filter(|full| full.len() <= LONGEST_NAME);
    let mut all = Vec::with_capacity(search.len() + 1);
    if is_first {
        all.push(name.to_owned());
        all.extend(within);
    } else {
        all.extend(within);
        all.push(name.to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_that_cannot_be_are_refused() {
        let long_label = format!("{}.test", "a".repeat(64));
        let long_name = ["abcdefg"; 32].join(".");
        for name in ["", ".", "a..b", ".a", "a b", "a/b", "a\0", "é.test", &long_label, &long_name] {
            assert!(flaw(name).is_some(), "{name}");
        }
        let longest = format!("{}.{}", ["abcdefg"; 31].join("."), "abcde");
        assert_eq!(longest.len(), 253);
        for name in ["a", "a.b.", "_http._tcp.a", "x-y.1", &longest] {
            assert_eq!(flaw(name), None, "{name}");
        }
    }

    #[test]
    fn test_search_domains_go_first_for_names_with_few_dots() {
        let search = ["one.test".to_owned(), "two.test".to_owned()];
        assert_eq!(candidates("a", &search, 1), ["a.one.test", "a.two.test", "a"]);
        assert_eq!(candidates("a.b", &search, 1), ["a.b", "a.b.one.test", "a.b.two.test"]);
        assert_eq!(candidates("a.b", &search, 2), ["a.b.one.test", "a.b.two.test", "a.b"]);
        assert_eq!(candidates("a.", &search, 1), ["a"]);
    }

    #[test]
    fn test_services() {
        assert!(is_service("_http._tcp.a.test"));
        assert!(!is_service("_http.a.test"));
        assert!(!is_service("_http._tcp"));
        assert!(!is_service("a.test"));
    }
}
