# SPDX-License-Identifier: Apache-2.0
"""Are probes marked as the gateway reads marks?"""

from __future__ import annotations

import hashlib
import hmac

import pytest

from pylae.doctor.marks import key_of, mark

KEY = bytes([7]) * 32


def test_a_mark_signs_time_nonce_method_and_path() -> None:
    made = mark(KEY, "GET", "/a%20b", 1_800_000_000.9, "0123456789abcdef")
    version, seconds, nonce, signature = made.value.split(";")
    assert (version, seconds, nonce) == ("v1", "1800000000", "0123456789abcdef")
    assert signature == hmac.new(KEY, b"v1|1800000000|0123456789abcdef|GET|/a%20b", hashlib.sha256).hexdigest()


def test_each_mark_has_a_nonce_of_its_own() -> None:
    nonces = {mark(KEY, "HEAD", "/", 0).nonce for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 16 and int(nonce, 16) >= 0 for nonce in nonces)


@pytest.mark.parametrize("text", ["", "07" * 31, "07" * 33, "zz" * 32, "é"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert key_of(text) is None
    assert key_of("07" * 32 + "\n") == KEY
