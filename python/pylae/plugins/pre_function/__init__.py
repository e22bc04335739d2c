# SPDX-License-Identifier: Apache-2.0
"""The pre-function plugin; see `plugin.py`."""
