# SPDX-License-Identifier: Apache-2.0
"""The correlation-id plugin; see `plugin.py`."""
