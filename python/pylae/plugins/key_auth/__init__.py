# SPDX-License-Identifier: Apache-2.0
"""The key-auth plugin; see `plugin.py`."""
