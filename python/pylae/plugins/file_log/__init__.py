# SPDX-License-Identifier: Apache-2.0
"""The file-log plugin; see `plugin.py`."""
