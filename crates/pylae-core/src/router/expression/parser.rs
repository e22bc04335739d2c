// SPDX-License-Identifier: Apache-2.0
//! Is this text an expression, and which one? Recursive descent; length, depth and the size of regular expressions are bounded.

use super::scanner::{Operator, Scanner, Value};
use super::{Check, Comparison, Field, Node, Subsystem, Test};
use crate::router::regexes::LazyRegex;

/// Longest text, in bytes.
const LENGTH_LIMIT_BYTES: usize = 64 * 1024;
/// Deepest nesting of parentheses, and of functions.
const DEPTH_LIMIT: usize = 64;
/// Steps of all regular expressions together; about 10 MiB once compiled.
const STEP_LIMIT: usize = 100_000;

struct Parser<'a> {
    scanner: Scanner<'a>,
    subsystem: Subsystem,
    depth: usize,
    steps: usize,
}

pub(super) fn parse(text: &str, subsystem: Subsystem) -> Result<Node, String> {
    let mut parser = Parser { scanner: Scanner::new(text), subsystem, depth: 0, steps: 0 };
    if text.len() > LENGTH_LIMIT_BYTES {
        return Err(parser.scanner.error(0, &format!("the expression is longer than {LENGTH_LIMIT_BYTES} bytes")));
    }
    let root = parser.expression()?;
    if !parser.scanner.is_at_end() {
        return Err(parser.error("expected EOI, and_op, or or_op"));
    }
    Ok(root)
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Address,
}

impl Parser<'_> {
    fn error(&mut self, problem: &str) -> String {
        let place = self.scanner.place();
        self.scanner.error(place, problem)
    }

    /// `||` binds tighter than `&&`. That is the other way round than in most languages, and it is what Kong's engine does: its own
    /// tests read `a && b || c` as `a && (b || c)`.
    fn expression(&mut self) -> Result<Node, String> {
        let mut parts = vec![self.alternatives()?];
        while self.scanner.takes("&&") {
            parts.push(self.alternatives()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::All(parts) })
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        let mut parts = vec![self.term()?];
        while self.scanner.takes("||") {
            parts.push(self.term()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Any(parts) })
    }

    fn term(&mut self) -> Result<Node, String> {
        let start = self.scanner.place();
        let is_negated = self.scanner.takes("!");
        if !self.scanner.takes("(") {
            if is_negated {
                // `!` stands before parentheses only.
                return Err(self.scanner.error(start, "expected term"));
            }
            return self.test();
        }
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(self.scanner.error(start, &format!("more than {DEPTH_LIMIT} parentheses within each other")));
        }
        let inner = self.expression()?;
        if !self.scanner.takes(")") {
            return Err(self.error("expected `)`, and_op, or or_op"));
        }
        self.depth -= 1;
        Ok(if is_negated { Node::Not(Box::new(inner)) } else { inner })
    }

    fn test(&mut self) -> Result<Node, String> {
        let start = self.scanner.place();
        let (mut is_any, mut is_lower, mut open) = (false, false, 0);
        let mut name_at = start;
        let Some(mut name) = self.scanner.name() else { return Err(self.error("expected term")) };
        while self.scanner.takes("(") {
            match name {
                "any" => is_any = true,
                "lower" => is_lower = true,
                other => return Err(self.scanner.error(name_at, &format!("unknown transformation function: {other}"))),
            }
            open += 1;
            if open > DEPTH_LIMIT {
                return Err(self.scanner.error(start, &format!("more than {DEPTH_LIMIT} functions within each other")));
            }
            name_at = self.scanner.place();
            name = self.scanner.name().ok_or_else(|| self.error("expected lhs"))?;
        }
        for _ in 0..open {
            if !self.scanner.takes(")") {
                return Err(self.error("expected `)`"));
            }
        }
        let Some(operator) = self.scanner.operator() else { return Err(self.error("expected binary_operator")) };
        let value_at = self.scanner.place();
        let value = self.scanner.value()?;
        let (field, field_type) = find_field(name, self.subsystem).map_err(|problem| self.scanner.error(name_at, problem))?;
        if is_lower && field_type != Type::Text {
            let problem = "lower-case transformation function only supported with String type fields";
            return Err(self.scanner.error(start, problem));
        }
        let check = self.check(field_type, operator, value).map_err(|problem| self.scanner.error(value_at, &problem))?;
        Ok(Node::Test(Test { field, is_any, is_lower, check }))
    }

    fn check(&mut self, field_type: Type, operator: Operator, value: Value) -> Result<Check, String> {
        let bytes = |text: String| text.into_bytes().into();
        let mismatch = "Type mismatch between the LHS and RHS values of predicate";
        Ok(match (field_type, operator, value) {
            (Type::Text, Operator::Matches, Value::Text(pattern)) => {
                let regex = LazyRegex::new(pattern, false)?;
                self.steps = self.steps.saturating_add(regex.step_count());
                if self.steps > STEP_LIMIT {
                    return Err("the regular expressions up to here are too large together".into());
                }
                Check::Matches(regex)
            }
            (_, Operator::Matches, Value::Text(_)) => return Err("Regex operators only supports string operands".into()),
            (_, Operator::Matches, _) => return Err("regex operator can only be used with String operands".into()),
            (Type::Text, Operator::Equals, Value::Text(text)) => Check::Equals(bytes(text)),
            (Type::Text, Operator::Differs, Value::Text(text)) => Check::Differs(bytes(text)),
            (Type::Text, Operator::BeginsWith, Value::Text(text)) => Check::BeginsWith(bytes(text)),
            (Type::Text, Operator::EndsWith, Value::Text(text)) => Check::EndsWith(bytes(text)),
            (Type::Text, Operator::Contains, Value::Text(text)) => Check::Contains(bytes(text)),
            (Type::Number, Operator::Equals, Value::Number(number)) => Check::Number(Comparison::Equal, number),
            (Type::Number, Operator::Differs, Value::Number(number)) => Check::Number(Comparison::NotEqual, number),
            (Type::Number, Operator::Greater, Value::Number(number)) => Check::Number(Comparison::Greater, number),
            (Type::Number, Operator::GreaterOrEqual, Value::Number(number)) => Check::Number(Comparison::GreaterOrEqual, number),
            (Type::Number, Operator::Less, Value::Number(number)) => Check::Number(Comparison::Less, number),
            (Type::Number, Operator::LessOrEqual, Value::Number(number)) => Check::Number(Comparison::LessOrEqual, number),
            (Type::Address, Operator::Equals, Value::Address(address)) => Check::AddressIs(address),
            (Type::Address, Operator::Differs, Value::Address(address)) => Check::AddressIsNot(address),
            (Type::Address, Operator::In, Value::Network(network)) => Check::In(network),
            (Type::Address, Operator::NotIn, Value::Network(network)) => Check::NotIn(network),
            (_, Operator::In | Operator::NotIn, _) => return Err("In/NotIn operators only supports IP in CIDR".into()),
            (Type::Number, _, Value::Number(_)) | (Type::Address, _, Value::Address(_)) => {
                return Err(match operator {
                    Operator::BeginsWith | Operator::EndsWith => "Prefix/Postfix operators only supports string operands".into(),
                    Operator::Contains => "Contains operator only supports string operands".into(),
                    _ => "Greater/GreaterOrEqual/Less/LessOrEqual operators only supports integer operands".to_owned(),
                });
            }
            (Type::Text, _, Value::Text(_)) => {
                return Err("Greater/GreaterOrEqual/Less/LessOrEqual operators only supports integer operands".into());
            }
            _ => return Err(mismatch.into()),
        })
    }
}

fn find_field(name: &str, subsystem: Subsystem) -> Result<(Field, Type), &'static str> {
    const UNKNOWN: &str = "Unknown LHS field";
    let found = match name {
        "net.protocol" => (Field::Protocol, Type::Text),
        "tls.sni" => (Field::Sni, Type::Text),
        "net.src.ip" => (Field::SourceAddress, Type::Address),
        "net.src.port" => (Field::SourcePort, Type::Number),
        "net.dst.ip" => (Field::DestinationAddress, Type::Address),
        "net.dst.port" => (Field::DestinationPort, Type::Number),
        _ if subsystem == Subsystem::Stream => return Err(UNKNOWN),
        "net.port" => (Field::DestinationPort, Type::Number),
        "http.method" => (Field::Method, Type::Text),
        "http.host" => (Field::Host, Type::Text),
        "http.path" => (Field::Path, Type::Text),
        "http.path.segments.len" => (Field::SegmentCount, Type::Number),
        _ => {
            if let Some(range) = name.strip_prefix("http.path.segments.") {
                let (first, last) = read_range(range).ok_or("illformed http.path.segments.* field")?;
                (Field::Segments { first, last }, Type::Text)
            } else if let Some(header) = name.strip_prefix("http.headers.").filter(|header| !header.is_empty()) {
                (Field::Header(header.into()), Type::Text)
            } else if let Some(argument) = name.strip_prefix("http.queries.").filter(|argument| !argument.is_empty()) {
                (Field::Argument(argument.as_bytes().into()), Type::Text)
            } else {
                return Err(UNKNOWN);
            }
        }
    };
    Ok(found)
}

/// `N`, or `N_M` with N not above M.
fn read_range(text: &str) -> Option<(u32, u32)> {
    let number = |digits: &str| {
        let is_plain =
            digits == "0" || !digits.starts_with('0') && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| is_plain)
    };
    let (first, last) = text.split_once('_').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}
