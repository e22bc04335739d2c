# SPDX-License-Identifier: Apache-2.0
"""The mtls-auth plugin; see `plugin.py`."""
