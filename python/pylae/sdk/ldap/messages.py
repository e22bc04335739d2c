# SPDX-License-Identifier: Apache-2.0
"""What do LDAP messages look like on the wire? RFC 4511, in the BER subset of its section 5.1.

pyasn1 and the module of RFC 2251 (whose messages RFC 4511 kept) do the work; they are imported with this module, and
this module with the first connection, since a worker that asks no directory should not carry them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pyasn1.codec.ber import decoder, encoder  # type: ignore[import-untyped]  # has no types
from pyasn1.error import PyAsn1Error  # type: ignore[import-untyped]  # as above
from pyasn1_modules import rfc2251  # type: ignore[import-untyped]  # as above

from pylae.sdk.ldap.entries import Entry, Equals, Present, Result, Scope
from pylae.sdk.ldap.failures import LdapFailed

START_TLS: Final = b"1.3.6.1.4.1.1466.20037"
MAX_MESSAGE_BYTES: Final = 262_144
"""An entry with a thousand groups has about 80 KiB; nothing that a plugin asks for has more than a few times that."""
UNSOLICITED: Final = 0
"""The id of messages that answer no request (RFC 4511, section 4.4)."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came: its id, which operation (`bindResponse`, …), and what of it matters here."""

    id: int
    operation: str
    content: Result | Entry | None


def bind_request(message_id: int, name: str, password: bytes) -> bytes:
    """A simple bind (section 4.2). An empty password would prove nothing and succeed (RFC 4513, section 5.1.2)."""
    if not name or not password:
        raise LdapFailed("a bind needs a name and a password")
    message = _message(message_id)
    request = message["protocolOp"]["bindRequest"]
    request["version"] = 3
    request["name"] = name.encode()
    request["authentication"]["simple"] = password
    return _encoded(message)


def search_request(
    message_id: int, base: str, scope: Scope, wanted: Equals | Present, attributes: list[str], max_entries: int, time_s: int
) -> bytes:
    """A search (section 4.5) that follows no alias."""
    message = _message(message_id)
    request = message["protocolOp"]["searchRequest"]
    request["baseObject"] = base.encode()
    request["scope"] = int(scope)
    request["derefAliases"] = 0
    request["sizeLimit"] = max_entries
    request["timeLimit"] = time_s
    request["typesOnly"] = False
    if isinstance(wanted, Equals):
        request["filter"]["equalityMatch"]["attributeDesc"] = wanted.attribute.encode()
        request["filter"]["equalityMatch"]["assertionValue"] = wanted.value.encode()
    else:
        request["filter"]["present"] = wanted.attribute.encode()
    # With no attribute named a server sends all it has; `1.1` asks for none (section 4.5.1.8).
    for position, attribute in enumerate(attributes or ["1.1"]):
        request["attributes"][position] = attribute.encode()
    return _encoded(message)


def start_tls_request(message_id: int) -> bytes:
    """Asks to go on under TLS (section 4.14)."""
    message = _message(message_id)
    message["protocolOp"]["extendedReq"]["requestName"] = START_TLS
    return _encoded(message)


def unbind_request(message_id: int) -> bytes:
    """Takes leave; there is no answer (section 4.3)."""
    message = _message(message_id)
    message["protocolOp"]["unbindRequest"] = b""
    return _encoded(message)


def frame_length(buffer: bytes | bytearray) -> int | None:
    """How many bytes the message at the start of the buffer has; None while that can't be told.

    Raises:
        LdapFailed: it is no LDAP message, or a larger one than anything that was asked for.
    """
    if not buffer:
        return None
    if buffer[0] != 0x30:
        raise LdapFailed("sent what is no LDAP")
    if len(buffer) < 2:
        return None
    first = buffer[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if count == 0 or count > 4:
        raise LdapFailed("sent a message whose length is none")
    if len(buffer) < 2 + count:
        return None
    length = 2 + count + int.from_bytes(buffer[2 : 2 + count])
    if length > MAX_MESSAGE_BYTES:
        raise LdapFailed(f"sent a message of more than {MAX_MESSAGE_BYTES} bytes")
    return length


def decode(data: bytes) -> Message:
    """Reads one whole message.

    Raises:
        LdapFailed: it is none.
    """
    try:
        message, rest = decoder.decode(data, asn1Spec=rfc2251.LDAPMessage())
        if rest:
            raise LdapFailed("sent a message that ends before its length")
        operation = message["protocolOp"].getName()
        return Message(int(message["messageID"]), operation, _content(operation, message["protocolOp"].getComponent()))
    except (PyAsn1Error, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, AttributeError) as error:
        # pyasn1 lets errors of these kinds through for bytes that it did not expect; its texts quote what came.
        raise LdapFailed("sent a message that cannot be read") from error


def _content(operation: str, body: Any) -> Result | Entry | None:
    if operation in ("bindResponse", "searchResDone", "extendedResp"):
        return Result(int(body["resultCode"]))
    if operation != "searchResEntry":
        return None
    attributes: dict[str, list[str]] = {}
    for attribute in body["attributes"]:
        kind = bytes(attribute["type"]).decode("ascii", "replace").lower()
        values = attributes.setdefault(kind, [])
        values += [text for value in attribute["vals"] if (text := _text(bytes(value))) is not None]
    name = _text(bytes(body["objectName"]))
    if name is None:
        raise LdapFailed("sent an entry whose name is no UTF-8")
    return Entry(name, attributes)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _message(message_id: int) -> Any:
    message = rfc2251.LDAPMessage()
    message["messageID"] = message_id
    return message


def _encoded(message: Any) -> bytes:
    encoded: bytes = encoder.encode(message)
    return encoded
