# SPDX-License-Identifier: Apache-2.0
"""The jwt plugin; see `plugin.py`."""
