# SPDX-License-Identifier: Apache-2.0
"""The ai-response-transformer plugin; see `plugin.py`."""
