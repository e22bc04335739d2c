# SPDX-License-Identifier: Apache-2.0
"""The statsd plugin; see `plugin.py`."""
