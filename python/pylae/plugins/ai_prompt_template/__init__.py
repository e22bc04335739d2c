# SPDX-License-Identifier: Apache-2.0
"""The ai-prompt-template plugin; see `plugin.py`."""
