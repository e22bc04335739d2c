# SPDX-License-Identifier: Apache-2.0
"""The grpc-web plugin; see `plugin.py`."""
