// SPDX-License-Identifier: Apache-2.0
//! What must be so of every request for which an expression holds? Texts that the index can look up.

use super::{Check, Field, Node, Test};
use crate::router::conditions::NamePattern;
use crate::router::regexes::literals;

/// Keys of one kind beyond which there are none: the index would grow more than it helps.
const KEY_LIMIT: usize = 64;

/// Conditions that are necessary, not sufficient. One of each list must hold; none: nothing is known.
#[derive(Debug, Default)]
pub(in crate::router) struct Keys {
    pub(in crate::router) hosts: Option<Vec<NamePattern>>,
    pub(in crate::router) paths: Option<Vec<PathKey>>,
    /// Each of these holds.
    pub(in crate::router) values: Vec<ValueKey>,
}

/// What the path begins with, and a text that is somewhere in it; either may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::router) struct PathKey {
    pub(in crate::router) start: Box<[u8]>,
    pub(in crate::router) inner: Box<[u8]>,
}

/// A field that has one of these values, whatever their case.
#[derive(Debug)]
pub(in crate::router) struct ValueKey {
    pub(in crate::router) field: Field,
    pub(in crate::router) values: Vec<Box<[u8]>>,
}

impl Keys {
    pub(super) fn of(root: &Node) -> Keys {
        match root {
            Node::All(parts) => parts.iter().map(Keys::of).reduce(Keys::both).unwrap_or_default(),
            Node::Any(parts) => parts.iter().map(Keys::of).reduce(Keys::either).unwrap_or_default(),
            Node::Not(_) => Keys::default(),
            Node::Test(test) => Keys::of_test(test),
        }
    }

    fn of_test(test: &Test) -> Keys {
        let mut keys = Keys::default();
        match (&test.field, &test.check) {
            (Field::Header(_) | Field::Argument(_) | Field::Method | Field::Sni, Check::Equals(text)) => {
                keys.values.push(ValueKey::new(&test.field, text));
            }
            (Field::Segments { first: 1.., .. }, Check::Equals(text)) => keys.values.push(ValueKey::new(&test.field, text)),
            _ if test.is_lower => {}
            (Field::Host, Check::Equals(text)) => keys.hosts = Some(vec![NamePattern::Exact(text.clone())]),
            (Field::Host, Check::EndsWith(text)) => keys.hosts = Some(vec![NamePattern::Suffix(text.clone())]),
            (Field::Host, Check::BeginsWith(text)) => keys.hosts = Some(vec![NamePattern::Prefix(text.clone())]),
            (Field::Path, check) => keys.paths = PathKey::of(check).map(|key| vec![key]),
            // `*` is the one path without a slash.
            (Field::Segments { first: 0, .. }, Check::Equals(text) | Check::BeginsWith(text)) if !b"*".starts_with(text) => {
                keys.paths = Some(vec![PathKey::new(&[b"/", &**text].concat(), b"")]);
            }
            _ => {}
        }
        keys
    }

    /// Both hold, so either list will do: the one that tells more.
    fn both(self, other: Keys) -> Keys {
        let better = |ours: Option<Vec<PathKey>>, theirs: Option<Vec<PathKey>>| {
            let certainty = |keys: &Vec<PathKey>| keys.iter().map(|key| key.start.len()).min();
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if certainty(&theirs) > certainty(&ours) => Some(theirs),
                (Some(ours), _) => Some(ours),
                (None, theirs) => theirs,
            }
        };
        let certainty = |hosts: &Vec<NamePattern>| hosts.iter().filter(|host| !matches!(host, NamePattern::Exact(_))).count();
        let hosts = match (self.hosts, other.hosts) {
            (Some(ours), Some(theirs)) if (certainty(&theirs), theirs.len()) < (certainty(&ours), ours.len()) => Some(theirs),
            (Some(ours), _) => Some(ours),
            (None, theirs) => theirs,
        };
        let mut values = self.values;
        values.extend(other.values);
        Keys { hosts, paths: better(self.paths, other.paths), values }
    }

    /// One of them holds, so only both lists together are certain.
    fn either(self, other: Keys) -> Keys {
        fn join<T>(ours: Option<Vec<T>>, theirs: Option<Vec<T>>) -> Option<Vec<T>> {
            let mut all = ours?;
            all.extend(theirs?);
            (all.len() <= KEY_LIMIT).then_some(all)
        }
        let mut values = Vec::new();
        let mut others = other.values;
        for key in self.values {
            if let Some(at) = others.iter().position(|other| other.field == key.field)
                && let Some(joined) = join(Some(key.values), Some(others.swap_remove(at).values))
            {
                values.push(ValueKey { field: key.field, values: joined });
            }
        }
        Keys { hosts: join(self.hosts, other.hosts), paths: join(self.paths, other.paths), values }
    }
}

impl ValueKey {
    fn new(field: &Field, text: &[u8]) -> Self {
        ValueKey { field: field.clone(), values: vec![text.into()] }
    }
}

impl PathKey {
    fn new(start: &[u8], inner: &[u8]) -> Self {
        PathKey { start: start.into(), inner: inner.into() }
    }

    fn of(check: &Check) -> Option<Self> {
        let key = match check {
            Check::Equals(text) | Check::BeginsWith(text) => PathKey::new(text, b""),
            Check::EndsWith(text) | Check::Contains(text) => PathKey::new(b"", text),
            Check::Matches(regex) => {
                let pattern = regex.pattern();
                let (start, inner) = literals(pattern.strip_prefix('^').unwrap_or(pattern));
                if pattern.starts_with('^') {
                    PathKey::new(start.as_bytes(), inner.as_bytes())
                } else {
                    let longest = if start.len() > inner.len() { start } else { inner };
                    PathKey::new(b"", longest.as_bytes())
                }
            }
            _ => return None,
        };
        (!key.start.is_empty() || !key.inner.is_empty()).then_some(key)
    }
}
