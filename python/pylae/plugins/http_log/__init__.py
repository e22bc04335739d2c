# SPDX-License-Identifier: Apache-2.0
"""The http-log plugin; see `plugin.py`."""
