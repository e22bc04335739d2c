# SPDX-License-Identifier: Apache-2.0
"""The resilience plugin; see `plugin.py`."""
