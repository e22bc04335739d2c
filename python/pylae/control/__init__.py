# SPDX-License-Identifier: Apache-2.0
"""How do workers stay fresh? The change log becomes snapshots and deltas on the line between control and worker."""
