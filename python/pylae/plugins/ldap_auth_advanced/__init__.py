# SPDX-License-Identifier: Apache-2.0
"""The ldap-auth-advanced plugin; see `plugin.py`."""
