# SPDX-License-Identifier: Apache-2.0
"""The request-transformer plugin; see `plugin.py`."""
