// SPDX-License-Identifier: Apache-2.0
//! Where in a MessagePack message does a row begin and end? Rows keep their bytes, so that others can be handed them unchanged.

use std::fmt;

/// What is wrong with a message's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageError {
    /// What was expected or met, lower case, no full stop.
    pub what: &'static str,
    /// Offset in bytes from the message's start.
    pub offset: usize,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the message", self.what, self.offset)
    }
}

impl std::error::Error for MessageError {}

/// Deepest nesting a message may have.
const DEPTH_LIMIT: u32 = 64;

/// Walks over MessagePack bytes without building values.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, offset: 0 }
    }

    pub(crate) fn error(&self, what: &'static str) -> MessageError {
        MessageError { what, offset: self.offset }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let rest = &self.bytes[self.offset..];
        if rest.len() < count {
            return Err(self.error("the message ends too early"));
        }
        self.offset += count;
        Ok(&rest[..count])
    }

    fn byte(&mut self) -> Result<u8, MessageError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian unsigned number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<usize, MessageError> {
        Ok(self.take(width)?.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.offset).copied()
    }

    /// Number of pairs of the map that begins here.
    pub(crate) fn map(&mut self) -> Result<usize, MessageError> {
        match self.byte()? {
            marker @ 0x80..=0x8f => Ok(usize::from(marker & 0x0f)),
            0xde => self.number(2),
            0xdf => self.number(4),
            _ => Err(self.error("expected a map")),
        }
    }

    /// Number of elements of the array that begins here.
    pub(crate) fn array(&mut self) -> Result<usize, MessageError> {
        match self.byte()? {
            marker @ 0x90..=0x9f => Ok(usize::from(marker & 0x0f)),
            0xdc => self.number(2),
            0xdd => self.number(4),
            _ => Err(self.error("expected an array")),
        }
    }

    /// The string that begins here.
    pub(crate) fn string(&mut self) -> Result<&'a str, MessageError> {
        let length = match self.byte()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => self.number(1)?,
            0xda => self.number(2)?,
            0xdb => self.number(4)?,
            _ => return Err(self.error("expected a string")),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| self.error("expected UTF-8"))
    }

    /// The non-negative integer that begins here.
    pub(crate) fn unsigned(&mut self) -> Result<u64, MessageError> {
        match self.byte()? {
            marker @ 0x00..=0x7f => Ok(u64::from(marker)),
            0xcc => Ok(self.number(1)? as u64),
            0xcd => Ok(self.number(2)? as u64),
            0xce => Ok(self.number(4)? as u64),
            0xcf => Ok(self.number(8)? as u64),
            marker @ 0xd0..=0xd3 => {
                let value = self.number(1 << (marker - 0xd0))?;
                let sign = 8usize << (marker - 0xd0);
                if value >> (sign - 1) == 1 {
                    return Err(self.error("expected a number that is not negative"));
                }
                Ok(value as u64)
            }
            _ => Err(self.error("expected an integer")),
        }
    }

    /// Is nil here? Steps over it.
    pub(crate) fn nil(&mut self) -> bool {
        let is_nil = self.peek() == Some(0xc0);
        self.offset += usize::from(is_nil);
        is_nil
    }

    /// The bytes of the whole value that begins here.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], MessageError> {
        let start = self.offset;
        self.skip(0)?;
        Ok(&self.bytes[start..self.offset])
    }

    fn skip(&mut self, depth: u32) -> Result<(), MessageError> {
        if depth > DEPTH_LIMIT {
            return Err(self.error("the message is nested too deeply"));
        }
        let mut children = 0;
        let length = match self.byte()? {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
            marker @ 0x80..=0x8f => {
                children = 2 * usize::from(marker & 0x0f);
                0
            }
            marker @ 0x90..=0x9f => {
                children = usize::from(marker & 0x0f);
                0
            }
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xc1 => return Err(self.error("a byte that MessagePack does not use")),
            0xc4 | 0xd9 => self.number(1)?,
            0xc5 | 0xda => self.number(2)?,
            0xc6 | 0xdb => self.number(4)?,
            0xc7 => self.number(1)? + 1,
            0xc8 => self.number(2)? + 1,
            0xc9 => self.number(4)? + 1,
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 | 0xd4 => 2,
            0xd5 => 3,
            0xca | 0xce | 0xd2 => 4,
            0xd6 => 5,
            0xcb | 0xcf | 0xd3 => 8,
            0xd7 => 9,
            0xd8 => 17,
            0xdc => {
                children = self.number(2)?;
                0
            }
            0xdd => {
                children = self.number(4)?;
                0
            }
            0xde => {
                children = 2 * self.number(2)?;
                0
            }
            0xdf => {
                children = 2 * self.number(4)?;
                0
            }
        };
        self.take(length)?;
        for _ in 0..children {
            self.skip(depth + 1)?;
        }
        Ok(())
    }

    /// Refuses bytes after the message.
    pub(crate) fn end(&self) -> Result<(), MessageError> {
        if self.offset == self.bytes.len() { Ok(()) } else { Err(self.error("bytes after the message")) }
    }
}

/// Writes the head of a map of `count` pairs.
pub(crate) fn write_map(out: &mut Vec<u8>, count: usize) {
    match count {
        0..16 => out.push(0x80 | count as u8),
        16..65536 => {
            out.push(0xde);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdf);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

/// Writes the head of an array of `count` elements.
pub(crate) fn write_array(out: &mut Vec<u8>, count: usize) {
    match count {
        0..16 => out.push(0x90 | count as u8),
        16..65536 => {
            out.push(0xdc);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

/// Writes a string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Writes a non-negative integer.
pub(crate) fn write_unsigned(out: &mut Vec<u8>, number: u64) {
    if number < 128 {
        out.push(number as u8);
    } else {
        out.push(0xcf);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmpv::Value;

    fn encode(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, value).expect("writing to a Vec cannot fail");
        out
    }

    #[test]
    fn every_kind_of_value_is_measured() {
        let values = [
            Value::Nil,
            Value::from(true),
            Value::from(-1),
            Value::from(-200),
            Value::from(-70_000),
            Value::from(i64::MIN),
            Value::from(200),
            Value::from(70_000),
            Value::from(u64::MAX),
            Value::F32(1.5),
            Value::F64(1.5),
            Value::from("x".repeat(40)),
            Value::from("x".repeat(70_000)),
            Value::Binary(vec![1; 300]),
            Value::Ext(3, vec![0; 16]),
            Value::Ext(3, vec![0; 5]),
            Value::Array(vec![Value::from(1); 20]),
            Value::Map((0..20).map(|n| (Value::from(n), Value::Array(vec![Value::Nil]))).collect()),
        ];
        for value in &values {
            let mut bytes = encode(value);
            let length = bytes.len();
            bytes.extend_from_slice(b"\xc0");
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.value().expect("a value").len(), length, "{value}");
            assert!(reader.nil() && reader.end().is_ok());
            for cut in 0..length {
                assert!(Reader::new(&bytes[..cut]).value().is_err(), "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(Reader::new(&vec![0x91; 100_000]).value().is_err());
    }

    #[test]
    fn numbers_are_read_in_every_width() {
        for number in [0u64, 127, 128, 255, 256, 65_535, 65_536, 1 << 40] {
            assert_eq!(Reader::new(&encode(&Value::from(number))).unsigned(), Ok(number));
            let mut own = Vec::new();
            write_unsigned(&mut own, number);
            assert_eq!(Reader::new(&own).unsigned(), Ok(number));
        }
        assert!(Reader::new(&encode(&Value::from(-1))).unsigned().is_err());
        assert_eq!(Reader::new(&[0xd1, 0x01, 0x00]).unsigned(), Ok(256));
        assert!(Reader::new(&[0xd1, 0xff, 0x00]).unsigned().is_err());
    }
}
