# SPDX-License-Identifier: Apache-2.0
"""unloadable: does not import."""

raise RuntimeError("not today")
