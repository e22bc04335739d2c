# SPDX-License-Identifier: Apache-2.0
"""The loggly plugin; see `plugin.py`."""
