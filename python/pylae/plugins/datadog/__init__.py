# SPDX-License-Identifier: Apache-2.0
"""The datadog plugin; see `plugin.py`."""
