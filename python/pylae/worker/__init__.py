# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker process: one thread, the data plane and its plugins."""
