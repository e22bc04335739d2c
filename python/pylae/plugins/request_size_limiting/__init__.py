# SPDX-License-Identifier: Apache-2.0
"""The request-size-limiting plugin; see `plugin.py`."""
