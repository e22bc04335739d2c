# SPDX-License-Identifier: Apache-2.0
"""What is a signed token, whose signature is it, and does it still hold?

Compact JSON Web Signatures (RFC 7515) and JSON Web Tokens (RFC 7519), over the algorithms of RFC 7518 and RFC 8037:

    token = parse(text)                             # Malformed
    keys = KeySet.from_json(body)                   # KeyRefused
    verify(token, keys.candidates(token), {"RS256"})  # SignatureRefused
    check_times(token.claims, now_s, skew_s=30)     # ClaimRefused

All four are `JoseError`, and never hold the token or a key. A key serves the algorithms of its own kind and no others, so
that a public key is never taken for a secret (RFC 8725, section 3.1); `none` is no algorithm here. What is dear, PyJWT and
cryptography, is imported when the first public key is read (some 50 ms: in a worker, `await asyncio.to_thread(...)` around
`Key.from_pem`, `Key.from_jwk` and `KeySet.from_json`); HS256 to HS512 need neither.
"""

from pylae.sdk.jose.claims import check_audience, check_issuer, check_times, numeric_date
from pylae.sdk.jose.errors import ClaimRefused, JoseError, KeyRefused, Malformed, SignatureRefused
from pylae.sdk.jose.key_sets import KeySet
from pylae.sdk.jose.keys import Key
from pylae.sdk.jose.names import ALGORITHMS
from pylae.sdk.jose.signatures import sign, verify
from pylae.sdk.jose.tokens import MAX_TOKEN_BYTES, Token, parse

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "ClaimRefused",
    "JoseError",
    "Key",
    "KeyRefused",
    "KeySet",
    "Malformed",
    "SignatureRefused",
    "Token",
    "check_audience",
    "check_issuer",
    "check_times",
    "numeric_date",
    "parse",
    "sign",
    "verify",
]
