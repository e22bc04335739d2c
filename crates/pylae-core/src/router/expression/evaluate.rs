// SPDX-License-Identifier: Apache-2.0
//! Does an expression hold, and what did it match on the way?

use super::{Check, Comparison, Field, Node, Program, Test};
use crate::router::facts::{Facts, lower};
use memchr::memmem;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// What the tests of an expression matched, the later ones laid over the earlier.
#[derive(Debug, Default)]
pub(in crate::router) struct Trace {
    /// Bytes of the path that the last successful `==`, `^=`, `=^` or `~` matched.
    pub(in crate::router) matched_length: Option<usize>,
    /// Groups of regular expressions by number, whatever field they looked at.
    pub(in crate::router) groups: Vec<Option<Vec<u8>>>,
    /// Groups by name.
    pub(in crate::router) named: Vec<(Arc<str>, Vec<u8>)>,
}

impl Program {
    /// Does the expression hold?
    #[inline]
    pub(in crate::router) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.root.holds(facts)
    }

    /// What the tests of an expression that holds matched.
    pub(in crate::router) fn trace(&self, facts: &Facts<'_>) -> Trace {
        let mut trace = Trace::default();
        self.root.trace(facts, &mut trace);
        trace
    }
}

impl Node {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Node::All(parts) => parts.iter().all(|part| part.holds(facts)),
            Node::Any(parts) => parts.iter().any(|part| part.holds(facts)),
            Node::Not(inner) => !inner.holds(facts),
            Node::Test(test) => test.holds(facts),
        }
    }

    /// The same, with notes. A test that held leaves its note even if what is around it did not hold, as in Kong's engine.
    fn trace(&self, facts: &Facts<'_>, trace: &mut Trace) -> bool {
        match self {
            Node::All(parts) => parts.iter().all(|part| part.trace(facts, trace)),
            Node::Any(parts) => parts.iter().any(|part| part.trace(facts, trace)),
            Node::Not(inner) => !inner.trace(facts, trace),
            Node::Test(test) => {
                let holds = test.holds(facts);
                if holds {
                    test.note(facts, trace);
                }
                holds
            }
        }
    }
}

impl Test {
    /// A field without a value fails every test, `!=` and `not in` too.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        match &self.field {
            Field::SourceAddress => self.check.holds_for_address(facts.source.0),
            Field::DestinationAddress => self.check.holds_for_address(facts.destination.0),
            Field::SourcePort => self.check.holds_for_number(i64::from(facts.source.1)),
            Field::DestinationPort => self.check.holds_for_number(i64::from(facts.destination.1)),
            Field::SegmentCount => facts.segment_count().is_some_and(|count| self.check.holds_for_number(count)),
            Field::Header(name) => self.holds_for_all(facts.header_values(name)),
            Field::Argument(name) => self.holds_for_all(facts.argument_values(name)),
            field => single(field, facts).is_some_and(|value| self.holds_for_text(value)),
        }
    }

    fn holds_for_all<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        if self.is_any {
            return values.any(|value| self.holds_for_text(value));
        }
        let mut values = values.peekable();
        values.peek().is_some() && values.all(|value| self.holds_for_text(value))
    }

    #[inline]
    fn holds_for_text(&self, value: &[u8]) -> bool {
        if self.is_lower {
            return self.holds_for_lower_text(value);
        }
        self.check.holds_for_text(value)
    }

    fn holds_for_lower_text(&self, value: &[u8]) -> bool {
        if !value.is_ascii() {
            return self.check.holds_for_text(&lower(value));
        }
        let same = |left: &[u8], right: &[u8]| {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.to_ascii_lowercase() == *right)
        };
        match &self.check {
            Check::Equals(text) => same(value, text),
            Check::Differs(text) => !same(value, text),
            Check::BeginsWith(text) => value.get(..text.len()).is_some_and(|start| same(start, text)),
            Check::EndsWith(text) => value.len().checked_sub(text.len()).is_some_and(|start| same(&value[start..], text)),
            check => {
                let mut room = [0; 256];
                match room.get_mut(..value.len()) {
                    Some(copy) => {
                        copy.copy_from_slice(value);
                        copy.make_ascii_lowercase();
                        check.holds_for_text(copy)
                    }
                    None => check.holds_for_text(&lower(value)),
                }
            }
        }
    }

    /// Writes down what a test that holds matched.
    fn note(&self, facts: &Facts<'_>, trace: &mut Trace) {
        match &self.check {
            Check::Equals(text) | Check::BeginsWith(text) | Check::EndsWith(text) if self.field == Field::Path => {
                trace.matched_length = Some(text.len());
            }
            Check::Matches(regex) => {
                let Some(compiled) = regex.compiled() else { return };
                let mut note = |value: &[u8]| {
                    let value = if self.is_lower { lower(value) } else { Cow::Borrowed(value) };
                    let Some(found) = compiled.regex.captures(&value) else { return false };
                    if self.field == Field::Path {
                        trace.matched_length = Some(found[0].len());
                    }
                    for (number, group) in found.iter().enumerate() {
                        let Some(group) = group else { continue };
                        if trace.groups.len() <= number {
                            trace.groups.resize(number + 1, None);
                        }
                        trace.groups[number] = Some(group.as_bytes().to_vec());
                        if let Some(Some(name)) = compiled.names.get(number) {
                            trace.named.retain(|(other, _)| other != name);
                            trace.named.push((Arc::clone(name), group.as_bytes().to_vec()));
                        }
                    }
                    self.is_any
                };
                match &self.field {
                    Field::Header(name) => {
                        let _ = facts.header_values(name).any(&mut note);
                    }
                    Field::Argument(name) => {
                        let _ = facts.argument_values(name).any(&mut note);
                    }
                    field => {
                        let _ = single(field, facts).map(note);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The value of a field that has one at most.
#[inline]
pub(super) fn single<'a>(field: &Field, facts: &Facts<'a>) -> Option<&'a [u8]> {
    match field {
        Field::Protocol => Some(facts.protocol.as_bytes()),
        Field::Sni => facts.sni,
        Field::Method => facts.method,
        Field::Host => facts.host,
        Field::Path => facts.path,
        Field::Segments { first, last } => facts.segment_range(*first, *last),
        _ => None,
    }
}

impl Check {
    #[inline]
    fn holds_for_text(&self, value: &[u8]) -> bool {
        match self {
            Check::Equals(text) => value == &**text,
            Check::Differs(text) => value != &**text,
            Check::BeginsWith(text) => value.starts_with(text),
            Check::EndsWith(text) => value.ends_with(text),
            Check::Contains(text) => memmem::find(value, text).is_some(),
            Check::Matches(regex) => regex.is_match(value),
            _ => false,
        }
    }

    fn holds_for_number(&self, value: i64) -> bool {
        let Check::Number(comparison, number) = self else { return false };
        match comparison {
            Comparison::Equal => value == *number,
            Comparison::NotEqual => value != *number,
            Comparison::Greater => value > *number,
            Comparison::GreaterOrEqual => value >= *number,
            Comparison::Less => value < *number,
            Comparison::LessOrEqual => value <= *number,
        }
    }

    fn holds_for_address(&self, value: IpAddr) -> bool {
        let value = value.to_canonical();
        match self {
            Check::AddressIs(address) => value == *address,
            Check::AddressIsNot(address) => value != *address,
            Check::In(network) => network.contains(value),
            Check::NotIn(network) => !network.contains(value),
            _ => false,
        }
    }
}
