# SPDX-License-Identifier: Apache-2.0
"""Attack: a secret tries to get into a text in another dress."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pylae.hiding import MASK, forms_of, hidden

ODD_WORDS = ["sesame\n1", "sesame'1", 'sesame"1', "sesame'\"1", "sesame\\1", "sésame-ü", "sesame\t\x00\x7f", "sesame\ud8001"]


def shown(text: str, *words: str) -> str:
    return hidden(text, forms_of(words))


@pytest.mark.parametrize("word", ["sesame", *ODD_WORDS])
def test_no_escapes_tell_a_word(word: str) -> None:
    dresses = [
        word,
        repr(word),
        repr([word, "it's"]),
        repr(f'it\'s "{word}"'),
        repr(word.encode("utf-8", "surrogatepass")),
        ascii(word),
        json.dumps({"key": word}),
        json.dumps(word, ensure_ascii=False),
        str(KeyError(word)),
    ]
    for text in dresses:
        told = shown(text, word)
        assert MASK in told
        assert "same" not in told


def test_no_line_of_a_key_is_told() -> None:
    key = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    first, *lines, last = key.splitlines()
    for text in (key, repr(key), json.dumps(key), repr(repr(key)), f"at line 2: {lines[0]}", *lines[:-1]):
        told = shown(text, key)
        assert MASK in told
        assert not any(line in told for line in lines[:-1])
    # What kind of thing it is may be said.
    assert shown(f"no {first} and {last}", key) == f"no {first} and {last}"


def test_longer_words_go_first_and_short_ones_stay() -> None:
    assert shown("sesame-and-more, sesame, abc", "sesame", "abc", "sesame-and-more") == f"{MASK}, {MASK}, abc"
    assert shown("nothing") == "nothing"
