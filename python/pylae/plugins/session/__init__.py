# SPDX-License-Identifier: Apache-2.0
"""The session plugin; see `plugin.py`."""
