# SPDX-License-Identifier: Apache-2.0
"""The proxy-cache plugin; see `plugin.py`."""
