# SPDX-License-Identifier: Apache-2.0
"""The cors plugin; see `plugin.py`."""
