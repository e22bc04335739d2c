# SPDX-License-Identifier: Apache-2.0
"""The response-ratelimiting plugin; see `plugin.py`."""
