# SPDX-License-Identifier: Apache-2.0
"""The rate-limiting plugin; see `plugin.py`."""
