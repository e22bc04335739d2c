# SPDX-License-Identifier: Apache-2.0
"""The acl plugin; see `plugin.py`."""
