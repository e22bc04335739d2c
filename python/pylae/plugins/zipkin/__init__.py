# SPDX-License-Identifier: Apache-2.0
"""The zipkin plugin; see `plugin.py`."""
