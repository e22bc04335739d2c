# SPDX-License-Identifier: Apache-2.0
"""Is the verdict right, whatever was broken on purpose?"""
