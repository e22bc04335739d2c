# SPDX-License-Identifier: Apache-2.0
"""The oauth2-introspection plugin; see `plugin.py`."""
