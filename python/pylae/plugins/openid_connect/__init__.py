# SPDX-License-Identifier: Apache-2.0
"""The openid-connect plugin; see `plugin.py`."""
