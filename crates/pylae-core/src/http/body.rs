// SPDX-License-Identifier: Apache-2.0
//! Which bytes of a stream are body? A decoder fed with bytes; no I/O.

use crate::http::head::Framing;

/// Longest chunk-size line with its extensions, in bytes.
const CHUNK_LINE_LIMIT_BYTES: usize = 256;
/// Largest trailer section, in bytes.
const TRAILER_LIMIT_BYTES: usize = 16 * 1024;

/// What the decoder made of the bytes it was shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// `skip` bytes of framing, then `data` bytes of body.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of body.
        data: usize,
    },
    /// `skip` bytes of framing, and more bytes are needed.
    More {
        /// Bytes of framing that may be dropped.
        skip: usize,
    },
    /// `skip` bytes of framing, and the body is over.
    End {
        /// Bytes of framing that may be dropped.
        skip: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkDataEnd,
    Trailers(usize),
    Done,
}

/// Tells body from framing, strictly: a chunk line is hexadecimal digits, an optional extension, CRLF.
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

/// The chunked coding is malformed.
#[derive(Debug, PartialEq, Eq)]
pub struct BadChunk(
    /// What was found.
    pub &'static str,
);

impl Decoder {
    /// A decoder for a body framed so.
    pub fn new(framing: Framing) -> Self {
        Decoder {
            state: match framing {
                Framing::None | Framing::Length(0) => State::Done,
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::ChunkLine,
                Framing::UntilClose => State::UntilClose,
            },
        }
    }

    /// Is the body over?
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Does only the end of the connection end this body?
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Bytes of body still to come, when that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Looks at the bytes at hand; call again after dropping `skip + data` of them.
    ///
    /// # Errors
    /// The chunked coding is malformed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BadChunk> {
        let mut skip = 0;
        loop {
            let rest = &bytes[skip..];
            match self.state {
                State::Done => return Ok(Step::End { skip }),
                State::UntilClose => {
                    return Ok(if rest.is_empty() { Step::More { skip } } else { Step::Data { skip, data: rest.len() } });
                }
                State::Length(left) => {
                    if rest.is_empty() {
                        return Ok(Step::More { skip });
                    }
                    let data = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = if data as u64 == left { State::Done } else { State::Length(left - data as u64) };
                    return Ok(Step::Data { skip, data });
                }
                State::ChunkData(left) => {
                    if rest.is_empty() {
                        return Ok(Step::More { skip });
                    }
                    let data = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = if data as u64 == left { State::ChunkDataEnd } else { State::ChunkData(left - data as u64) };
                    return Ok(Step::Data { skip, data });
                }
                State::ChunkDataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        skip += 2;
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => return Ok(Step::More { skip }),
                    _ => return Err(BadChunk("a chunk's data does not end in CRLF")),
                },
                State::ChunkLine => {
                    let Some((size, length)) = chunk_line(rest)? else { return Ok(Step::More { skip }) };
                    skip += length;
                    self.state = if size == 0 { State::Trailers(0) } else { State::ChunkData(size) };
                }
                State::Trailers(seen) => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        if seen + rest.len() > TRAILER_LIMIT_BYTES {
                            return Err(BadChunk("the trailers are over 16 KiB"));
                        }
                        return Ok(Step::More { skip });
                    };
                    let Some(line) = rest[..end].strip_suffix(b"\r") else { return Err(BadChunk("a trailer line does not end in CRLF")) };
                    if line.iter().any(|&b| b == 0 || b == b'\r') || seen + end > TRAILER_LIMIT_BYTES {
                        return Err(BadChunk("a trailer line holds NUL or CR, or is too long"));
                    }
                    skip += end + 1;
                    self.state = if line.is_empty() { State::Done } else { State::Trailers(seen + end + 1) };
                }
            }
        }
    }
}

/// Reads `size [; extension] CRLF`; `None` while the line is not whole.
fn chunk_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, BadChunk> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits > 15 {
        return Err(BadChunk("a chunk size has over 15 digits"));
    }
    if digits == bytes.len() {
        return Ok(None);
    }
    if digits == 0 {
        return Err(BadChunk("a chunk size is no hexadecimal number"));
    }
    if !matches!(bytes[digits], b'\r' | b';' | b' ' | b'\t') {
        return Err(BadChunk("a chunk size is followed by neither CRLF nor an extension"));
    }
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(CHUNK_LINE_LIMIT_BYTES)]) else {
        return if bytes.len() >= CHUNK_LINE_LIMIT_BYTES { Err(BadChunk("a chunk line is over 256 bytes")) } else { Ok(None) };
    };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else { return Err(BadChunk("a chunk line ends in a bare LF")) };
    let extension = line[digits..].trim_ascii_start();
    if !extension.is_empty() && extension[0] != b';' || extension.iter().any(|&b| b < b' ' && b != b'\t' || b == 0x7f) {
        return Err(BadChunk("a chunk extension is malformed"));
    }
    let size = bytes[..digits].iter().fold(0u64, |sum, &b| sum * 16 + u64::from((b as char).to_digit(16).unwrap_or(0)));
    Ok(Some((size, end + 1)))
}

/// Writes one chunk's line for `length` bytes of data.
pub fn write_chunk_line(out: &mut Vec<u8>, length: usize) {
    use std::io::Write;
    let _ = write!(out, "{length:x}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, bool), BadChunk> {
        let mut decoder = Decoder::new(framing);
        let (mut held, mut body) = (Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            held.extend_from_slice(part);
            loop {
                match decoder.step(&held)? {
                    Step::Data { skip, data } => {
                        body.extend_from_slice(&held[skip..skip + data]);
                        held.drain(..skip + data);
                    }
                    Step::More { skip } => {
                        held.drain(..skip);
                        break;
                    }
                    Step::End { .. } => return Ok((body, true)),
                }
            }
        }
        Ok((body, decoder.is_done()))
    }

    #[test]
    fn test_chunks_decode_the_same_however_they_are_cut() {
        let bytes = b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        for piece in 1..bytes.len() {
            assert_eq!(decode(Framing::Chunked, bytes, piece), Ok((b"hello0123456789".to_vec(), true)), "pieces of {piece}");
        }
    }

    #[test]
    fn test_length_stops_at_its_length() {
        assert_eq!(decode(Framing::Length(3), b"abcdef", 2), Ok((b"abc".to_vec(), true)));
        assert_eq!(decode(Framing::Length(9), b"abcdef", 2), Ok((b"abcdef".to_vec(), false)));
    }

    #[test]
    fn test_chunk_smuggling_spellings_are_refused() {
        for bytes in [
            &b"zz\r\nabc\r\n0\r\n\r\n"[..],
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcX\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"3;a\nb\r\nabc\r\n0\r\n\r\n",
            b"3 x\r\nabc\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nX: y\n\r\n",
            b"\r\n3\r\nabc\r\n",
        ] {
            assert!(decode(Framing::Chunked, bytes, 1).is_err(), "{}", crate::http::head::printable(bytes, 60));
        }
    }
}
