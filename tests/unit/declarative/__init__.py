# SPDX-License-Identifier: Apache-2.0
"""Does a declarative configuration mean what it says?"""
