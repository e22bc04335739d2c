# SPDX-License-Identifier: Apache-2.0
"""The azure-functions plugin; see `plugin.py`."""
