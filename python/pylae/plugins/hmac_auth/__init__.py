# SPDX-License-Identifier: Apache-2.0
"""The hmac-auth plugin; see `plugin.py`."""
