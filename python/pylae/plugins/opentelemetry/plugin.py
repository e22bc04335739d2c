# SPDX-License-Identifier: Apache-2.0
"""opentelemetry: how does an OpenTelemetry collector see where a request spends its time?

For tracing and logging with OpenTelemetry.
"""

from __future__ import annotations

from pylae.plugins.opentelemetry import config as declared
from pylae.sdk.undone import Undone


class Opentelemetry(Undone):
    """Reports traces and logs to a collector over OTLP."""

    name = "opentelemetry"
    version = "3.10.0"
    priority = 14
    Config = declared.Config
    observes_only = True
