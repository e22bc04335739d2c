# SPDX-License-Identifier: Apache-2.0
"""The redirect plugin; see `plugin.py`."""
