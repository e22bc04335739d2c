# SPDX-License-Identifier: Apache-2.0
"""The oauth2 plugin; see `plugin.py`."""
