# SPDX-License-Identifier: Apache-2.0
"""The ip-restriction plugin; see `plugin.py`."""
