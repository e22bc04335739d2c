# SPDX-License-Identifier: Apache-2.0
"""The basic-auth plugin; see `plugin.py`."""
