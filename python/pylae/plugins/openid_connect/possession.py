# SPDX-License-Identifier: Apache-2.0
"""Is whoever shows a token the one it was given to?"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from pylae.plugins.openid_connect import claims, presented
from pylae.plugins.openid_connect.parts import Grant, Unauthorized
from pylae.plugins.openid_connect.refusals import WITH_POSSESSION
from pylae.plugins.openid_connect.settings import Settings
from pylae.sdk.auth import equals
from pylae.sdk.exchange import Exchange

CONFIRMATION: Final = ("cnf", "x5t#S256")


def check(exchange: Exchange, settings: Settings, grant: Grant) -> None:
    """Compares the token with a cookie of the browser's, or with the certificate of the connection (RFC 8705, section 3).

    Raises:
        Unauthorized: it is another's.
    """
    config = settings.config
    if config.jwt_session_cookie and grant.method == "bearer":
        said = (grant.access_claims or {}).get(config.jwt_session_claim)
        shown = presented.cookie(exchange, config.jwt_session_cookie)
        if not isinstance(said, str) or shown is None or not equals(said, shown):
            raise Unauthorized("the token belongs to another session")
    wanted = config.proof_of_possession_mtls
    if wanted in (None, "off") or grant.method not in WITH_POSSESSION:
        return
    confirmation = claims.find(grant, CONFIRMATION)
    if confirmation is None and wanted == "optional":
        return
    chain = exchange.client.certificate_chain
    if not isinstance(confirmation, str) or not chain or not equals(confirmation, thumbprint(chain[0])):
        raise Unauthorized("the token is bound to another certificate")


def thumbprint(certificate: bytes) -> str:
    """`x5t#S256` of a certificate (DER); RFC 8705, section 3.1."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
