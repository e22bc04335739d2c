# SPDX-License-Identifier: Apache-2.0
"""The post-function plugin; see `plugin.py`."""
