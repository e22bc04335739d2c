# SPDX-License-Identifier: Apache-2.0
"""What may an administrator set for azure-functions?"""

from __future__ import annotations

from pylae.sdk import Record, field, kinds


class Config(Record):
    """What an administrator may set."""

    timeout: float = field(kinds.number(), default=600_000, unit="milliseconds", doc="How long one request may take.")
    keepalive: float = field(
        kinds.number(), default=60_000, unit="milliseconds", doc="How long an idle connection is kept for the next request."
    )
    https: bool = field(kinds.boolean(), default=True, doc="Speaks TLS to the function.")
    https_verify: bool = field(kinds.boolean(), default=False, doc="Verifies the function's certificate.")
    apikey: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Key sent to the function in `x-functions-key`."
    )
    clientid: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Client id sent to the function in `x-functions-clientid`."
    )
    appname: str = field(kinds.string(), required=True, doc="Name of the function app, the first part of its host name.")
    hostdomain: str = field(kinds.string(), required=True, default="azurewebsites.net", doc="Domain the function app is in.")
    routeprefix: str = field(kinds.string(), default="api", doc="First part of the path the function is called at.")
    functionname: str = field(kinds.string(), required=True, doc="Name of the function to call.")
