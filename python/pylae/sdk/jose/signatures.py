# SPDX-License-Identifier: Apache-2.0
"""Who signed it?"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pylae.sdk.jose.asymmetric import algorithm_named
from pylae.sdk.jose.encoding import encode_base64url, encode_json
from pylae.sdk.jose.errors import KeyRefused, SignatureRefused
from pylae.sdk.jose.keys import Key
from pylae.sdk.jose.names import ALGORITHMS, HASHES
from pylae.sdk.jose.tokens import Token


def verify(token: Token, keys: Key | Iterable[Key], algorithms: Collection[str]) -> Key:
    """The key that made the token's signature.

    Args:
        token: As parsed.
        keys: Those it may be: of an issuer, of a credential. One that does not serve the token's algorithm is not tried.
        algorithms: Those that are expected here, whatever the token asks for.

    Raises:
        SignatureRefused: None of them did.
    """
    algorithm = token.algorithm
    if algorithm not in algorithms:
        raise SignatureRefused("an algorithm that is not expected")
    is_tried = False
    for key in (keys,) if isinstance(keys, Key) else keys:
        if not key.serves(algorithm):
            continue
        is_tried = True
        hash_name = HASHES.get(algorithm)
        if hash_name is not None:
            is_right = hmac.compare_digest(hmac.digest(key.material, token.signing_input, hash_name), token.signature)
        else:
            is_right = algorithm_named(algorithm).verify(token.signing_input, key.material, token.signature)
        if is_right:
            return key
    raise SignatureRefused("another key's signature" if is_tried else "no key for it", is_key_missing=not is_tried)


def sign(claims: Mapping[str, Any], material: str | bytes, algorithm: str, header: Mapping[str, Any] | None = None) -> str:
    """A compact token that says this.

    Args:
        claims: Anything that is JSON.
        material: The secret (HMAC), or the private key in PEM, unencrypted.
        algorithm: Of `ALGORITHMS`.
        header: More for its header, such as `kid`.

    Raises:
        KeyRefused: that algorithm can't be used with this key.
    """
    head = encode_json({"alg": algorithm, "typ": "JWT", **(header or {})})
    signing_input = encode_base64url(head) + b"." + encode_base64url(encode_json(claims))
    data = material.encode() if isinstance(material, str) else material
    hash_name = HASHES.get(algorithm)
    if hash_name is not None:
        signature = hmac.digest(Key.from_secret(data).material, signing_input, hash_name)
    elif algorithm in ALGORITHMS:
        signature = _sign_with_private_key(signing_input, data, algorithm)
    else:
        raise KeyRefused("an algorithm that is not known")
    return (signing_input + b"." + encode_base64url(signature)).decode()


def _sign_with_private_key(signing_input: bytes, pem: bytes, algorithm: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from jwt.exceptions import PyJWTError

    signer = algorithm_named(algorithm)
    try:
        private_key = load_pem_private_key(pem, password=None)
        signature: bytes = signer.sign(signing_input, signer.prepare_key(private_key))
    except (ValueError, TypeError, PyJWTError, UnsupportedAlgorithm):
        raise KeyRefused("no private key for this algorithm") from None
    return signature
