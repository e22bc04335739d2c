# SPDX-License-Identifier: Apache-2.0
"""The udp-log plugin; see `plugin.py`."""
