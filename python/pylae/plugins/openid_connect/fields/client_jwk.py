# SPDX-License-Identifier: Apache-2.0
"""How is a private key written down as a JSON Web Key? RFC 7517; RFC 7518, section 6."""

from __future__ import annotations

from typing import Any, Final

from pylae.sdk import Record, field, kinds

PUBLIC: Final = ("issuer", "kty", "use", "alg", "kid", "x5u", "x5t", "x5t#S256", "crv", "n", "e", "x", "y")
SECRET: Final = ("k", "d", "p", "q", "dp", "dq", "qi", "oth", "r", "t")
LISTS: Final = ("key_ops", "x5c")

_members: dict[str, Any] = {
    "__doc__": "A key pair, or a secret.",
    "__module__": __name__,
    **{name: field(kinds.string(), doc=f"Member `{name}` of the key.") for name in PUBLIC},
    **{name: field(kinds.array(kinds.string()), doc=f"Member `{name}` of the key.") for name in LISTS},
    **{
        name: field(kinds.string(), referenceable=True, secret=True, doc=f"Member `{name}` of the key, which is secret.")
        for name in SECRET
    },
}
# One member has a name that no attribute can have.
ClientJwk: type[Record] = type("ClientJwk", (Record,), _members)
