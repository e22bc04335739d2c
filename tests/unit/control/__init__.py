# SPDX-License-Identifier: Apache-2.0
"""Are workers kept fresh?"""
