# SPDX-License-Identifier: Apache-2.0
"""The tcp-log plugin; see `plugin.py`."""
