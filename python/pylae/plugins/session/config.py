# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for session?"""

from __future__ import annotations

import base64
import secrets
from typing import Final

from pylae.schema import shorthand
from pylae.sdk import Record, field, kinds

HEADERS: Final = ("id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout", "absolute-timeout")

SECRET: Final = base64.b64encode(secrets.token_bytes(32)).decode()
"""Signs the cookies of those who set no secret; another one after each start, as in Kong."""


class Config(Record):
    """What an administrator may set."""

    shorthands = (
        shorthand(
            "cookie_lifetime", kinds.number(), lambda value, _: {"rolling_timeout": value}, doc="Old name of `rolling_timeout`."
        ),
        shorthand(
            "cookie_idletime",
            kinds.number(),
            lambda value, _: {"idling_timeout": 0 if value is None else value},
            doc="Old name of `idling_timeout`.",
        ),
        shorthand("cookie_renew", kinds.number(), lambda *_: {}, doc="Has no effect any more."),
        shorthand("cookie_discard", kinds.number(), lambda value, _: {"stale_ttl": value}, doc="Old name of `stale_ttl`."),
        shorthand(
            "cookie_samesite",
            kinds.string(),
            lambda value, _: {"cookie_same_site": "Lax" if value == "off" else value},
            doc="Old name of `cookie_same_site`.",
        ),
        shorthand(
            "cookie_httponly",
            kinds.boolean(),
            lambda value, _: {"cookie_http_only": value},
            doc="Old name of `cookie_http_only`.",
        ),
        shorthand("cookie_persistent", kinds.boolean(), lambda value, _: {"remember": value}, doc="Old name of `remember`."),
    )

    secret: str = field(
        kinds.string(),
        default=SECRET,
        referenceable=True,
        secret=True,
        doc="Secret the keys that encrypt session data are made from.",
    )
    storage: str = field(
        kinds.string(one_of=("cookie", "kong")),
        default="cookie",
        doc="Where session data lives: in the cookie, or in the database.",
    )
    audience: str = field(
        kinds.string(), default="default", doc="Application a session is for; sessions of others are not accepted."
    )
    idling_timeout: float = field(
        kinds.number(), default=900, unit="seconds", doc="How long a session may go unused before it ends; 0 for ever."
    )
    rolling_timeout: float = field(
        kinds.number(), default=3600, unit="seconds", doc="How long a session lasts unless it is renewed by use; 0 for ever."
    )
    absolute_timeout: float = field(
        kinds.number(), default=86_400, unit="seconds", doc="How long a session lasts however much it is used; 0 for ever."
    )
    stale_ttl: float = field(
        kinds.number(), default=10, unit="seconds", doc="How long an old cookie still works once a new one is given."
    )
    cookie_name: str = field(kinds.string(), default="session", doc="Name of the session cookie.")
    cookie_path: str = field(kinds.string(), default="/", doc="Path the cookie is sent for.")
    cookie_domain: str | None = field(kinds.string(), doc="Domain the cookie is sent to; none for the request's host alone.")
    cookie_same_site: str = field(
        kinds.string(one_of=("Strict", "Lax", "None", "Default")),
        default="Strict",
        doc="Whether the cookie goes along with requests from other sites.",
    )
    cookie_http_only: bool = field(kinds.boolean(), default=True, doc="Hides the cookie from scripts.")
    cookie_secure: bool = field(kinds.boolean(), default=True, doc="Sends the cookie over HTTPS only.")
    remember: bool = field(kinds.boolean(), default=False, doc="Keeps the session after the browser is closed.")
    remember_cookie_name: str = field(kinds.string(), default="remember", doc="Name of the cookie that outlives the browser.")
    remember_rolling_timeout: float = field(
        kinds.number(), default=604_800, unit="seconds", doc="How long a remembered session lasts unless it is renewed by use."
    )
    remember_absolute_timeout: float = field(
        kinds.number(), default=2_592_000, unit="seconds", doc="How long a remembered session lasts however much it is used."
    )
    response_headers: list[str] | None = field(
        kinds.set_of(kinds.string(one_of=HEADERS)), doc="Facts about the session the client is told in headers."
    )
    request_headers: list[str] | None = field(
        kinds.set_of(kinds.string(one_of=HEADERS)), doc="Facts about the session the upstream is told in headers."
    )
    read_body_for_logout: bool = field(kinds.boolean(), default=False, doc="Looks for `logout_post_arg` in the body.")
    logout_methods: list[str] = field(
        kinds.set_of(kinds.string(one_of=("GET", "POST", "DELETE"))), default=["POST", "DELETE"], doc="Methods a logout may use."
    )
    logout_query_arg: str = field(kinds.string(), default="session_logout", doc="Query argument that ends the session.")
    logout_post_arg: str = field(kinds.string(), default="session_logout", doc="Body argument that ends the session.")
    hash_subject: bool = field(kinds.boolean(), default=False, doc="Hashes the subject before it is kept in metadata.")
    store_metadata: bool = field(kinds.boolean(), default=False, doc="Keeps a list of each subject's sessions.")
