// SPDX-License-Identifier: Apache-2.0
//! SipHash-2-4 with 128 bits (Aumasson, Bernstein 2012): a keyed hash, so that nobody outside can make keys collide.

/// 128 bits of `words`, little-endian, followed by `bytes`, under the key; the first half is the low one.
pub fn siphash24_128(key: (u64, u64), words: &[u64], bytes: &[u8]) -> (u64, u64) {
    let mut v =
        [key.0 ^ 0x736f_6d65_7073_6575, key.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee, key.0 ^ 0x6c79_6765_6e65_7261, key.1 ^ 0x7465_6462_7974_6573];
    for &word in words {
        absorb(&mut v, word);
    }
    let mut chunks = bytes.chunks_exact(8);
    let mut last = [0u8; 8];
    for chunk in &mut chunks {
        last.copy_from_slice(chunk);
        absorb(&mut v, u64::from_le_bytes(last));
    }
    let rest = chunks.remainder();
    last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = (words.len() * 8 + bytes.len()) as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xee;
    let low = squeeze(&mut v);
    v[1] ^= 0xdd;
    (low, squeeze(&mut v))
}

fn squeeze(v: &mut [u64; 4]) -> u64 {
    for _ in 0..4 {
        round(v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::siphash24_128;

    const KEY: (u64, u64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);

    #[test]
    fn test_reference_vectors() {
        // vectors.h of the authors' reference implementation, 0 and 1 bytes.
        assert_eq!(siphash24_128(KEY, &[], b""), (0xe6a8_25ba_047f_81a3, 0x9302_55c7_1472_f66d));
        assert_eq!(siphash24_128(KEY, &[], b"\x00"), (0x44af_996b_d8c1_87da, 0x45fc_229b_1159_7634));
    }

    #[test]
    fn test_words_count_as_the_bytes_they_are_made_of() {
        let bytes: Vec<u8> = (0..21).collect();
        let first = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
        let second = u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(siphash24_128(KEY, &[first, second], &bytes[16..]), siphash24_128(KEY, &[], &bytes));
    }
}
