# SPDX-License-Identifier: Apache-2.0
"""How is a client told what to authenticate with? RFC 9110, section 11.6.1."""

from __future__ import annotations


def challenge(scheme: str, **parameters: str | None) -> dict[str, str]:
    """The `WWW-Authenticate` field of a refusal: `Basic realm="orders"`; parameters that are None are left out."""
    said = ", ".join(f"{name}={_quoted(value)}" for name, value in parameters.items() if value is not None)
    return {"WWW-Authenticate": f"{scheme} {said}" if said else scheme}


def _quoted(text: str) -> str:
    """A quoted-string (RFC 9110, section 5.6.4); what can't be in a field value is left out."""
    visible = "".join(character for character in text if character.isprintable())
    return '"' + visible.replace("\\", "\\\\").replace('"', '\\"') + '"'
