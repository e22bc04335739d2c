# SPDX-License-Identifier: Apache-2.0
"""How are references read and resolved?"""
