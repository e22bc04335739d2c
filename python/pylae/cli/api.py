# SPDX-License-Identifier: Apache-2.0
"""How does a command ask the running gateway something, whatever its listeners demand of others?"""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import Final

import msgspec

from pylae.cli.talk import CommandFailed
from pylae.pem import as_path
from pylae.settings import Listener, Purpose, Settings

TIMEOUT_S: Final = 10.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def call(settings: Settings, purpose: Purpose, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Status and body of one call to the first listener of a purpose, one without TLS before others.

    Raises:
        CommandFailed: there is no listener, or it does not answer.
    """
    listeners = sorted(settings.listeners(purpose), key=lambda listener: listener.is_tls)
    if not listeners:
        raise CommandFailed(f"{purpose}_listen is off")
    listener = listeners[0]
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    if purpose == "admin" and settings.admin_auth_token:
        headers["Authorization"] = f"Bearer {settings.admin_auth_token[0]}"
    connection = _connection(settings, purpose, listener)
    try:
        connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read() or b"{}")
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise CommandFailed(f"{_shown(listener)} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return answer.status, found if isinstance(found, dict) else {}


def _shown(listener: Listener) -> str:
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    return f"{host}:{listener.port}"


def _connection(settings: Settings, purpose: str, listener: Listener) -> http.client.HTTPConnection:
    host = _ANY.get(listener.address, listener.address)
    if not listener.is_tls:
        return http.client.HTTPConnection(host, listener.port, timeout=TIMEOUT_S)
    # The certificate that it must show is known, whoever has signed it and whomever it names.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    own = Path(settings.prefix) / "ssl" / f"{purpose}-kong-default.crt"
    for certificate in getattr(settings, f"{purpose}_ssl_cert") or [str(own)]:
        try:
            context.load_verify_locations(as_path(certificate))
        except (OSError, ssl.SSLError) as error:
            raise CommandFailed(f"{certificate} can't be read: {error}") from error
    return http.client.HTTPSConnection(host, listener.port, timeout=TIMEOUT_S, context=context)
