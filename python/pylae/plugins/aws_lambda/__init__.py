# SPDX-License-Identifier: Apache-2.0
"""The aws-lambda plugin; see `plugin.py`."""
