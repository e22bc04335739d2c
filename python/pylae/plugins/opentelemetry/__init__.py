# SPDX-License-Identifier: Apache-2.0
"""The opentelemetry plugin; see `plugin.py`."""
