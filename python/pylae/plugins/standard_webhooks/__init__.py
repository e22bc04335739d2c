# SPDX-License-Identifier: Apache-2.0
"""The standard-webhooks plugin; see `plugin.py`."""
