# SPDX-License-Identifier: Apache-2.0
"""The bot-detection plugin; see `plugin.py`."""
