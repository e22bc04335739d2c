# SPDX-License-Identifier: Apache-2.0
"""The request-termination plugin; see `plugin.py`."""
