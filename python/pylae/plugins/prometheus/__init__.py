# SPDX-License-Identifier: Apache-2.0
"""The prometheus plugin; see `plugin.py`."""
