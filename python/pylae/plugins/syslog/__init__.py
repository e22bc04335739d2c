# SPDX-License-Identifier: Apache-2.0
"""The syslog plugin; see `plugin.py`."""
