// SPDX-License-Identifier: Apache-2.0
//! Which parts of an expression hold and which do not, in the words of the language? For explanations, not for requests.

use super::{Check, Comparison, Field, Network, Node, Program, Test};
use crate::router::explanation::{Described, Truth};
use std::fmt::{self, Display};

/// A part of an expression that must hold if the whole is to.
pub(in crate::router) struct Predicate<'a>(&'a Node);

impl Program {
    /// Goes over the parts that must all hold, those of a conjunction or the whole expression, for as long as `look` wants to see more.
    pub(in crate::router) fn visit<'a>(&'a self, look: &mut dyn FnMut(Predicate<'a>) -> bool) {
        visit(&self.root, look);
    }
}

fn visit<'a>(node: &'a Node, look: &mut dyn FnMut(Predicate<'a>) -> bool) -> bool {
    match node {
        Node::All(parts) => parts.iter().all(|part| visit(part, look)),
        other => look(Predicate(other)),
    }
}

impl Predicate<'_> {
    /// Does it hold for what is known of the request?
    pub(in crate::router) fn truth(&self, described: &Described<'_>) -> Truth {
        self.0.truth(described)
    }

    /// What the request has in the fields it looks at, each once; none for a field without a value.
    pub(in crate::router) fn got(&self, described: &Described<'_>) -> Vec<(String, Option<String>)> {
        let mut fields = Vec::new();
        self.0.fields(&mut fields);
        fields.into_iter().map(|field| (field.to_string(), field.shown(described))).collect()
    }

    /// The fields it looks at whose values are not known, as a reason.
    pub(in crate::router) fn unknown(&self, described: &Described<'_>) -> Vec<String> {
        let mut fields = Vec::new();
        self.0.fields(&mut fields);
        fields.into_iter().filter_map(|field| described.why_unknown(field)).collect()
    }
}

impl Display for Predicate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Node {
    fn truth(&self, described: &Described<'_>) -> Truth {
        match self {
            Node::All(parts) => parts.iter().map(|part| part.truth(described)).min().unwrap_or(Truth::Yes),
            Node::Any(parts) => parts.iter().map(|part| part.truth(described)).max().unwrap_or(Truth::No),
            Node::Not(inner) => inner.truth(described).inverse(),
            Node::Test(test) => test.truth(described),
        }
    }

    fn fields<'a>(&'a self, found: &mut Vec<&'a Field>) {
        match self {
            Node::All(parts) | Node::Any(parts) => parts.iter().for_each(|part| part.fields(found)),
            Node::Not(inner) => inner.fields(found),
            Node::Test(test) if found.contains(&&test.field) => {}
            Node::Test(test) => found.push(&test.field),
        }
    }
}

impl Test {
    fn truth(&self, described: &Described<'_>) -> Truth {
        let facts = described.facts();
        if !described.is_unknown(&self.field) {
            let may_hold = match &self.check {
                // Of ten thousand expressions few begin as the path does: the others are not compiled.
                Check::Matches(regex) if self.field == Field::Path && !self.is_lower => {
                    facts.path.is_some_and(|path| path.starts_with(certain_start(regex.pattern())))
                }
                _ => true,
            };
            return Truth::of(may_hold && self.holds(facts));
        }
        let (has_known_value, holds) = match &self.field {
            Field::Header(name) => (facts.header_values(name).next().is_some(), self.holds(facts)),
            Field::Argument(name) => (facts.argument_values(name).next().is_some(), self.holds(facts)),
            _ => (false, false),
        };
        match (has_known_value, self.is_any, holds) {
            // One that holds is enough, one that does not is too many, whatever the others are.
            (true, true, true) => Truth::Yes,
            (true, false, false) => Truth::No,
            _ => Truth::Unknown,
        }
    }
}

/// What every match begins with, as far as that is plain to see.
fn certain_start(pattern: &str) -> &[u8] {
    let Some(rest) = pattern.strip_prefix('^').map(str::as_bytes).filter(|rest| !rest.contains(&b'|')) else { return b"" };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let length = rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
    // What is repeated may be there no time.
    let is_repeated = matches!(rest.get(length), Some(b'*' | b'?' | b'{' | b'+'));
    &rest[..length.saturating_sub(usize::from(is_repeated))]
}

impl Field {
    fn shown(&self, described: &Described<'_>) -> Option<String> {
        if described.is_unknown(self) {
            return None;
        }
        let facts = described.facts();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let joined = |values: Vec<String>| (!values.is_empty()).then(|| values.join(", "));
        match self {
            Field::Header(name) => joined(facts.header_values(name).map(text).collect()),
            Field::Argument(name) => joined(facts.argument_values(name).map(text).collect()),
            Field::SegmentCount => facts.segment_count().map(|count| count.to_string()),
            Field::SourceAddress => Some(facts.source.0.to_canonical().to_string()),
            Field::SourcePort => Some(facts.source.1.to_string()),
            Field::DestinationAddress => Some(facts.destination.0.to_canonical().to_string()),
            Field::DestinationPort => Some(facts.destination.1.to_string()),
            field => super::evaluate::single(field, facts).map(text),
        }
    }
}

// === as a person would write it ===

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Node], sign: &str| {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    write!(f, " {sign} ")?;
                }
                match part {
                    Node::All(_) | Node::Any(_) => write!(f, "({part})")?,
                    Node::Not(_) | Node::Test(_) => part.fmt(f)?,
                }
            }
            Ok(())
        };
        match self {
            Node::All(parts) => joined(f, parts, "&&"),
            Node::Any(parts) => joined(f, parts, "||"),
            Node::Not(inner) => write!(f, "!({inner})"),
            Node::Test(test) => test.fmt(f),
        }
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_any, self.is_lower) {
            (true, true) => write!(f, "any(lower({})) {}", self.field, self.check),
            (true, false) => write!(f, "any({}) {}", self.field, self.check),
            (false, true) => write!(f, "lower({}) {}", self.field, self.check),
            (false, false) => write!(f, "{} {}", self.field, self.check),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Protocol => f.write_str("net.protocol"),
            Field::Sni => f.write_str("tls.sni"),
            Field::Method => f.write_str("http.method"),
            Field::Host => f.write_str("http.host"),
            Field::Path => f.write_str("http.path"),
            Field::Segments { first, last } if first == last => write!(f, "http.path.segments.{first}"),
            Field::Segments { first, last } => write!(f, "http.path.segments.{first}_{last}"),
            Field::SegmentCount => f.write_str("http.path.segments.len"),
            Field::Header(name) => write!(f, "http.headers.{name}"),
            Field::Argument(name) => write!(f, "http.queries.{}", String::from_utf8_lossy(name)),
            Field::SourceAddress => f.write_str("net.src.ip"),
            Field::SourcePort => f.write_str("net.src.port"),
            Field::DestinationAddress => f.write_str("net.dst.ip"),
            Field::DestinationPort => f.write_str("net.dst.port"),
        }
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, sign: &str, text: &[u8]| {
            write!(f, "{sign} \"")?;
            for character in String::from_utf8_lossy(text).chars() {
                match character {
                    '"' | '\\' => write!(f, "\\{character}")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    other => write!(f, "{other}")?,
                }
            }
            f.write_str("\"")
        };
        match self {
            Check::Equals(text) => quoted(f, "==", text),
            Check::Differs(text) => quoted(f, "!=", text),
            Check::BeginsWith(text) => quoted(f, "^=", text),
            Check::EndsWith(text) => quoted(f, "=^", text),
            Check::Contains(text) => quoted(f, "contains", text),
            Check::Matches(regex) => quoted(f, "~", regex.pattern().as_bytes()),
            Check::Number(comparison, number) => write!(f, "{} {number}", comparison.sign()),
            Check::AddressIs(address) => write!(f, "== {address}"),
            Check::AddressIsNot(address) => write!(f, "!= {address}"),
            Check::In(network) => write!(f, "in {network}"),
            Check::NotIn(network) => write!(f, "not in {network}"),
        }
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::certain_start;

    #[test]
    fn what_a_match_begins_with_is_never_too_long() {
        for (pattern, start) in [
            ("^/a/b$", "/a/b"),
            ("^/ab?c", "/a"),
            ("^/ab*", "/a"),
            ("^/ab{0,2}", "/a"),
            ("^/a|/b", ""),
            ("^(?i)/a", ""),
            ("^/a.b", "/a"),
            ("/a", ""),
            ("^/a\\.b", "/a"),
            ("^/\u{e4}?b", "/"),
            ("^", ""),
            ("^a", "a"),
            ("^a?", ""),
            ("^?", ""),
        ] {
            assert_eq!(certain_start(pattern), start.as_bytes(), "{pattern}");
        }
    }
}
