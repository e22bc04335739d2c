# SPDX-License-Identifier: Apache-2.0
"""What do plugins share that know a browser again by its cookie?

A cookie is sealed (`sealing`), so that only we can have made it; it holds the session's id and its times, and the content
too unless a store keeps that (`stores`). `sessions` opens, begins, renews and ends them.
"""

from pylae.sdk.sessions.cookies import CookieFlags
from pylae.sdk.sessions.sealing import Sealer
from pylae.sdk.sessions.sessions import Session, Sessions, Timeouts
from pylae.sdk.sessions.stores import DatabaseStore, Store

__all__ = ["CookieFlags", "DatabaseStore", "Sealer", "Session", "Sessions", "Store", "Timeouts"]
