# SPDX-License-Identifier: Apache-2.0
"""Do writes mean what they should?"""
