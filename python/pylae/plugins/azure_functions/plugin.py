# SPDX-License-Identifier: Apache-2.0
"""azure-functions: how does a request become a call of an Azure function?

Those who offer Azure functions as an API, without an upstream.
"""

from __future__ import annotations

from pylae.plugins.azure_functions import config as declared
from pylae.sdk.undone import Undone


class AzureFunctions(Undone):
    """Calls an Azure function and answers with its result."""

    name = "azure-functions"
    version = "3.10.0"
    priority = 749
    protocols = ("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    Config = declared.Config
