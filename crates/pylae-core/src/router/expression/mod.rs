// SPDX-License-Identifier: Apache-2.0
//! What does a Route's `expression` say? The language of Kong's `expressions` flavour: typed fields, operators, `&&`, `||`, `!(…)`.

mod evaluate;
mod keys;
mod parser;
mod predicates;
mod scanner;

pub(super) use keys::Keys;
pub(super) use predicates::Predicate;

use super::record::Demand;
use super::regexes::LazyRegex;
use std::net::IpAddr;

/// What an expression may speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subsystem {
    Http,
    Stream,
}

/// An expression, read and checked.
#[derive(Debug)]
pub(super) struct Program {
    root: Node,
    /// What must be so of every request that matches, for the index.
    pub(super) keys: Keys,
}

/// Depth is bounded by the parser, so walks may recurse.
#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// One comparison.
#[derive(Debug)]
struct Test {
    field: Field,
    /// One of several values is enough.
    is_any: bool,
    /// Values are lower-cased first.
    is_lower: bool,
    check: Check,
}

/// What a test looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Field {
    Protocol,
    Sni,
    Method,
    Host,
    Path,
    Segments { first: u32, last: u32 },
    SegmentCount,
    Header(Box<str>),
    Argument(Box<[u8]>),
    SourceAddress,
    SourcePort,
    DestinationAddress,
    DestinationPort,
}

#[derive(Debug)]
enum Check {
    Equals(Box<[u8]>),
    Differs(Box<[u8]>),
    BeginsWith(Box<[u8]>),
    EndsWith(Box<[u8]>),
    Contains(Box<[u8]>),
    Matches(LazyRegex),
    Number(Comparison, i64),
    AddressIs(IpAddr),
    AddressIsNot(IpAddr),
    In(Network),
    NotIn(Network),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads `address/prefix` or, if `may_be_single`, `address`. Bits after the prefix must be 0 in the first form.
    pub(super) fn parse(text: &str, may_be_single: bool) -> Result<Self, &'static str> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None if may_be_single => (text, None),
            None => return Err("expected a prefix length"),
        };
        let address: IpAddr = address.parse().map_err(|_| "invalid IP address")?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().map_err(|_| "invalid prefix length")?,
            Some(_) => return Err("invalid prefix length"),
        };
        if prefix > width {
            return Err("invalid prefix length");
        }
        Ok(Network { address, prefix })
    }

    fn bits(address: IpAddr) -> (u128, u32) {
        match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        }
    }

    /// Are the bits after the prefix 0?
    fn is_exact(self) -> bool {
        let (bits, width) = Self::bits(self.address);
        self.prefix == width || bits & (u128::MAX >> (128 - (width - self.prefix))) == 0
    }

    /// Is the address in the block? An address of the other family is not.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        let ((ours, width), (theirs, their_width)) = (Self::bits(self.address), Self::bits(address));
        width == their_width && (ours ^ theirs).checked_shr(width - self.prefix).unwrap_or(0) == 0
    }
}

impl Program {
    /// Reads an expression.
    ///
    /// # Errors
    /// It is not one; the text shows where.
    pub(super) fn new(text: &str, subsystem: Subsystem) -> Result<Self, String> {
        let root = parser::parse(text, subsystem)?;
        let keys = Keys::of(&root);
        Ok(Program { root, keys })
    }

    /// All that the expression demands, if that is a host and a path.
    pub(super) fn demand(&self) -> Option<Demand<'_>> {
        let parts = match &self.root {
            Node::All(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        let mut demand = Demand::default();
        for part in parts {
            match part {
                Node::Test(Test { field: Field::Host, is_lower: false, check: Check::Equals(text), .. }) if demand.host.is_none() => {
                    demand.host = Some(text);
                }
                Node::Test(Test { field: Field::Path, is_lower: false, check: Check::BeginsWith(text), .. }) if demand.path.is_none() => {
                    demand.path = Some(text);
                }
                Node::Test(Test { field: Field::Path, is_lower: false, check: Check::Equals(text), .. }) if demand.path.is_none() => {
                    demand.path = Some(text);
                    demand.is_whole_path = true;
                }
                _ => return None,
            }
        }
        Some(demand)
    }
}

/// Checks the `expression` of a Route for HTTP.
///
/// # Errors
/// What is wrong with it and where, over several lines.
pub fn check_expression(text: &str) -> Result<(), String> {
    parser::parse(text, Subsystem::Http).map(|_| ())
}

/// Checks the `expression` of a Route for streams.
///
/// # Errors
/// What is wrong with it and where, over several lines.
pub fn check_stream_expression(text: &str) -> Result<(), String> {
    parser::parse(text, Subsystem::Stream).map(|_| ())
}
