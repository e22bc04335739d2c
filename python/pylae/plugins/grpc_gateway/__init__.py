# SPDX-License-Identifier: Apache-2.0
"""The grpc-gateway plugin; see `plugin.py`."""
