# SPDX-License-Identifier: Apache-2.0
"""What do these tests share? What those of the journey do."""

from __future__ import annotations

from tests.journey.conftest import blueprints, echo, echo_path, fresh_echo, fresh_logs, gateway, make_origin

__all__ = ["blueprints", "echo", "echo_path", "fresh_echo", "fresh_logs", "gateway", "make_origin"]
