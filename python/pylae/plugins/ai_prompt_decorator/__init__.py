# SPDX-License-Identifier: Apache-2.0
"""The ai-prompt-decorator plugin; see `plugin.py`."""
