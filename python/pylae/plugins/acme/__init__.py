# SPDX-License-Identifier: Apache-2.0
"""The acme plugin; see `plugin.py`."""
