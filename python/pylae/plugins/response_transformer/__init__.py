# SPDX-License-Identifier: Apache-2.0
"""The response-transformer plugin; see `plugin.py`."""
