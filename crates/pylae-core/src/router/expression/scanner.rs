// SPDX-License-Identifier: Apache-2.0
//! Which word, sign or value comes next in an expression?

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Network;

/// Characters of the text shown on either side of a mistake.
const SHOWN_CHARACTERS: usize = 60;

/// A place in the text of an expression, and what can be read there.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Address(IpAddr),
    Network(Network),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equals,
    Differs,
    Matches,
    BeginsWith,
    EndsWith,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    In,
    NotIn,
    Contains,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The place of the next sign, in bytes.
    pub(super) fn place(&mut self) -> usize {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.at
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.place() == self.text.len()
    }

    /// Steps over this sign, if it comes next.
    pub(super) fn takes(&mut self, sign: &str) -> bool {
        self.place();
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len();
        }
        is_next
    }

    /// A name: a letter, then letters, digits, `_` and `.`.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        self.place();
        let rest = self.rest();
        if !rest.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return None;
        }
        let end = rest.find(|next: char| !next.is_ascii_alphanumeric() && next != '_' && next != '.').unwrap_or(rest.len());
        self.at += end;
        Some(&rest[..end])
    }

    /// Steps over this word, if it comes next whole.
    fn takes_word(&mut self, word: &str) -> bool {
        let start = self.place();
        if self.name() == Some(word) {
            return true;
        }
        self.at = start;
        false
    }

    pub(super) fn operator(&mut self) -> Option<Operator> {
        // The longer sign first, where one begins with another.
        const SIGNS: [(&str, Operator); 9] = [
            ("==", Operator::Equals),
            ("!=", Operator::Differs),
            ("~", Operator::Matches),
            ("^=", Operator::BeginsWith),
            ("=^", Operator::EndsWith),
            (">=", Operator::GreaterOrEqual),
            (">", Operator::Greater),
            ("<=", Operator::LessOrEqual),
            ("<", Operator::Less),
        ];
        if let Some((_, operator)) = SIGNS.iter().find(|(sign, _)| self.takes(sign)) {
            return Some(*operator);
        }
        let start = self.place();
        if self.takes_word("in") {
            return Some(Operator::In);
        }
        if self.takes_word("contains") {
            return Some(Operator::Contains);
        }
        if self.takes_word("not") && self.takes_word("in") {
            return Some(Operator::NotIn);
        }
        self.at = start;
        None
    }

    /// A text in quotes, a raw text, an address, a block of addresses or a number.
    pub(super) fn value(&mut self) -> Result<Value, String> {
        let start = self.place();
        if self.takes("r#\"") {
            let Some(end) = self.rest().find("\"#") else { return Err(self.error(start, "the text has no end")) };
            let value = self.rest()[..end].to_owned();
            self.at += end + 2;
            return Ok(Value::Text(value));
        }
        if self.takes("\"") {
            return self.quoted(start);
        }
        self.literal(start)
    }

    fn quoted(&mut self, start: usize) -> Result<Value, String> {
        let mut value = String::new();
        let mut characters = self.text[self.at..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Ok(Value::Text(value));
                }
                '\\' => value.push(match characters.next() {
                    Some((_, same @ ('"' | '\\'))) => same,
                    Some((_, 'n')) => '\n',
                    Some((_, 'r')) => '\r',
                    Some((_, 't')) => '\t',
                    _ => return Err(self.error(self.at + offset, r#"expected `\"`, `\\`, `\n`, `\r` or `\t`"#)),
                }),
                other => value.push(other),
            }
        }
        Err(self.error(start, "the text has no end"))
    }

    fn literal(&mut self, start: usize) -> Result<Value, String> {
        let rest = self.rest();
        let length =
            rest.find(|next: char| !next.is_ascii_hexdigit() && !matches!(next, ':' | '.' | '/' | 'x' | '-')).unwrap_or(rest.len());
        let word = &rest[..length];
        let may_begin = |first: char| first.is_ascii_hexdigit() || matches!(first, ':' | '-');
        let value = if !word.starts_with(may_begin) {
            Err("expected rhs")
        } else if word.contains('/') {
            match Network::parse(word, false) {
                Ok(network) if network.is_exact() => Ok(Value::Network(network)),
                Ok(_) => Err("host part of address was not zero"),
                Err(problem) => Err(problem),
            }
        } else if word.contains(['.', ':']) {
            word.parse().map(Value::Address).map_err(|_| "invalid IP address")
        } else {
            number(word).map(Value::Number)
        };
        match value {
            Ok(value) => {
                self.at += length;
                Ok(value)
            }
            Err(problem) => Err(self.error(start, problem)),
        }
    }

    /// What is wrong and where: the line, a mark under the place, the words.
    pub(super) fn error(&self, place: usize, problem: &str) -> String {
        let place = place.min(self.text.len());
        let before = &self.text[..place];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let row = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let skipped = column.saturating_sub(1 + SHOWN_CHARACTERS);
        let shown: String = line.chars().skip(skipped).take(2 * SHOWN_CHARACTERS).collect();
        let margin = " ".repeat(row.to_string().len());
        let mut out = String::new();
        let _ = write!(out, "{margin}--> {row}:{column}\n{margin} |\n{row} | {shown}\n{margin} | ");
        out.extend(std::iter::repeat_n(' ', column - 1 - skipped));
        let _ = write!(out, "^---\n{margin} |\n{margin} = {problem}");
        out
    }
}

/// `0x` begins hexadecimal digits, `0` octal ones if all are such.
fn number(word: &str) -> Result<i64, &'static str> {
    let (is_negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let (radix, digits) = match digits.strip_prefix('0') {
        Some(rest) if rest.starts_with('x') => (16, &rest[1..]),
        Some(rest) if !rest.is_empty() && rest.bytes().all(|digit| matches!(digit, b'0'..=b'7')) => (8, rest),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("expected a number");
    }
    let value = i64::from_str_radix(digits, radix).map_err(|_| "number too large to fit in target type")?;
    Ok(if is_negative { -value } else { value })
}
