# SPDX-License-Identifier: Apache-2.0
"""The auth-damping plugin; see `plugin.py`."""
