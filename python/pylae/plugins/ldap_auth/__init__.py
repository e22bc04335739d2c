# SPDX-License-Identifier: Apache-2.0
"""The ldap-auth plugin; see `plugin.py`."""
