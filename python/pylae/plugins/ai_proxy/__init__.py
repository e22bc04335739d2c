# SPDX-License-Identifier: Apache-2.0
"""The ai-proxy plugin; see `plugin.py`."""
