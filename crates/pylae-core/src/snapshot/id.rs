// SPDX-License-Identifier: Apache-2.0
//! Which row is meant? The primary key of every entity, 16 bytes instead of 36 characters.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// A UUID. Ordered by its bytes, which is also the order of its text form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// The UUID of all zeros; no row has it.
    pub const NIL: Id = Id([0; 16]);

    /// Reads `8-4-4-4-12` hexadecimal digits in either case, or the 32 digits without hyphens.
    pub fn parse(text: &str) -> Option<Id> {
        let bytes = text.as_bytes();
        let is_hyphenated = match bytes.len() {
            36 => true,
            32 => false,
            _ => return None,
        };
        let mut out = [0u8; 16];
        let mut at = 0;
        for (index, byte) in out.iter_mut().enumerate() {
            if is_hyphenated && matches!(index, 4 | 6 | 8 | 10) {
                if bytes[at] != b'-' {
                    return None;
                }
                at += 1;
            }
            *byte = hex_value(bytes[at])? << 4 | hex_value(bytes[at + 1])?;
            at += 2;
        }
        Some(Id(out))
    }

    /// The name-based UUID (version 5, RFC 9562 §5.5) of `name` in the namespace `self`.
    #[must_use]
    pub fn derive(self, name: &[u8]) -> Id {
        let mut input = Vec::with_capacity(16 + name.len());
        input.extend_from_slice(&self.0);
        input.extend_from_slice(name);
        let digest = sha1(&input);
        let mut out = [0u8; 16];
        out.copy_from_slice(&digest[..16]);
        out[6] = out[6] & 0x0f | 0x50;
        out[8] = out[8] & 0x3f | 0x80;
        Id(out)
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::hash::Hash for Id {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // UUIDs are random in their tail; a version 4 one has fixed bits only in bytes 6 and 8.
        let number = u128::from_le_bytes(self.0);
        state.write_u64(number as u64 ^ (number >> 64) as u64);
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UUID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Id::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(IdVisitor)
    }
}

/// SHA-1 (FIPS 180-4), for name-based UUIDs only: nothing secret rests on it.
#[expect(clippy::many_single_char_names, reason = "the standard's own names")]
fn sha1(input: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut message = input.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(input.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for t in 16..80 {
            words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.iter().enumerate() {
            let (f, k) = match t {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (slot, value) in state.iter_mut().zip([a, b, c, d, e]) {
            *slot = slot.wrapping_add(value);
        }
    }
    let mut out = [0u8; 20];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

    #[test]
    fn text_and_bytes_go_both_ways() {
        let id = Id::parse(TEXT).expect("a UUID");
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(Id::parse(&TEXT.to_uppercase()), Some(id));
        assert_eq!(Id::parse(&TEXT.replace('-', "")), Some(id));
        assert_eq!(id.0[0], 0x0d);
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in [
            "",
            "0dc6f45b",
            "0dc6f45b-8f8d-40d2-a504-473544ee190",
            "0dc6f45bx8f8d-40d2-a504-473544ee190b",
            "zdc6f45b-8f8d-40d2-a504-473544ee190b",
        ] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }

    #[test]
    fn derived_ids_are_version_5() {
        // Python: uuid.uuid5(uuid.NAMESPACE_DNS, 'python.org')
        let namespace = Id::parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8").expect("a UUID");
        assert_eq!(namespace.derive(b"python.org").to_string(), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
        // FIPS 180-4: 56 bytes need a second block for the length.
        assert_eq!(sha1(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")[..4], [0x84, 0x98, 0x3e, 0x44]);
    }

    #[test]
    fn order_of_bytes_is_order_of_text() {
        let low = Id::parse("00000000-0000-4000-8000-000000000001").expect("a UUID");
        let high = Id::parse("f0000000-0000-4000-8000-000000000000").expect("a UUID");
        assert!(low < high);
    }
}
