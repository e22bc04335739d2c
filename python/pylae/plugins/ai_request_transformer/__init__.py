# SPDX-License-Identifier: Apache-2.0
"""The ai-request-transformer plugin; see `plugin.py`."""
