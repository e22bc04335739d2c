# SPDX-License-Identifier: Apache-2.0
"""Does each part do what it says, on its own?"""
