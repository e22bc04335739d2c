// SPDX-License-Identifier: Apache-2.0
//! The header fields of one message: names keep their case and order, values are bytes.

/// One field as offsets into the buffer that holds all of them.
#[derive(Clone, Copy, Debug)]
struct Field {
    name_start: u32,
    name_len: u16,
    value_start: u32,
    value_len: u32,
}

/// Header fields in the order they came, names compared without case (RFC 9110 §5.1).
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v)))).finish()
    }
}

impl Headers {
    /// No fields.
    pub const fn new() -> Self {
        Headers { bytes: Vec::new(), fields: Vec::new() }
    }

    /// No fields yet, room for `fields` of them in `bytes` bytes.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Headers { bytes: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }

    /// Forgets all fields, keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn name_of(&self, field: Field) -> &[u8] {
        &self.bytes[field.name_start as usize..field.name_start as usize + field.name_len as usize]
    }

    fn value_of(&self, field: Field) -> &[u8] {
        &self.bytes[field.value_start as usize..(field.value_start + field.value_len) as usize]
    }

    /// Name and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|&f| (self.name_of(f), self.value_of(f)))
    }

    /// The first value under this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|f| self.is_named(**f, name)).map(|&f| self.value_of(f))
    }

    /// The first value under this name, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Every value under this name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields.iter().filter(move |f| self.is_named(**f, name)).map(|&f| self.value_of(f))
    }

    /// Is there a field of this name?
    pub fn contains(&self, name: &str) -> bool {
        self.fields.iter().any(|f| self.is_named(*f, name))
    }

    #[inline]
    fn is_named(&self, field: Field, name: &str) -> bool {
        field.name_len as usize == name.len() && self.name_of(field).eq_ignore_ascii_case(name.as_bytes())
    }

    /// Appends a field. The caller vouches that name and value are valid (`is_token`, `is_value`).
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        let name_start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        let value_start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.fields.push(Field { name_start, name_len: name.len() as u16, value_start, value_len: value.len() as u32 });
    }

    /// Puts this value in the place of the first field of that name and drops the others; appends when there is none.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let value_start = self.bytes.len() as u32;
        let mut found = false;
        let mut index = 0;
        while index < self.fields.len() {
            if self.is_named(self.fields[index], name) {
                if found {
                    self.fields.remove(index);
                    continue;
                }
                found = true;
                self.fields[index].value_start = value_start;
                self.fields[index].value_len = value.len() as u32;
            }
            index += 1;
        }
        if found {
            self.bytes.extend_from_slice(value);
        } else {
            self.add(name, value);
        }
    }

    /// Drops every field of this name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.fields.len();
        let bytes = &self.bytes;
        self.fields.retain(|f| {
            f.name_len as usize != name.len()
                || !bytes[f.name_start as usize..f.name_start as usize + f.name_len as usize].eq_ignore_ascii_case(name.as_bytes())
        });
        before != self.fields.len()
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let bytes = &self.bytes;
        self.fields.retain(|f| {
            keep(
                &bytes[f.name_start as usize..f.name_start as usize + f.name_len as usize],
                &bytes[f.value_start as usize..(f.value_start + f.value_len) as usize],
            )
        });
    }

    /// Writes all fields as `Name: value\r\n` lines.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            write_field(out, name, value);
        }
    }
}

/// Writes one `Name: value\r\n` line.
#[inline]
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Is this a valid field name (a token, RFC 9110 §5.6.2)?
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && u16::try_from(name.len()).is_ok() && name.iter().all(|&b| TOKEN[b as usize])
}

/// Is this a value that cannot end its line or message (no CR, LF, NUL)?
pub fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|&b| matches!(b, b'\r' | b'\n' | 0))
}

/// The bytes a token may hold.
pub static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_keep_case_and_compare_without() {
        let mut headers = Headers::new();
        headers.add("X-ThIng", "1");
        headers.add("Other", "2");
        headers.add("x-thing", "3");
        assert_eq!(headers.get("X-THING"), Some(&b"1"[..]));
        assert_eq!(headers.get_all("x-thing").count(), 2);
        let mut out = Vec::new();
        headers.write_to(&mut out);
        assert_eq!(out, b"X-ThIng: 1\r\nOther: 2\r\nx-thing: 3\r\n");
    }

    #[test]
    fn test_set_replaces_in_place_and_drops_doubles() {
        let mut headers = Headers::new();
        headers.add("A", "1");
        headers.add("B", "2");
        headers.add("a", "3");
        headers.set("a", "9");
        let mut out = Vec::new();
        headers.write_to(&mut out);
        assert_eq!(out, b"A: 9\r\nB: 2\r\n");
        assert!(headers.remove("b"));
        assert!(!headers.contains("B"));
    }
}
