# SPDX-License-Identifier: Apache-2.0
"""The ai-prompt-guard plugin; see `plugin.py`."""
