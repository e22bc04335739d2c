# SPDX-License-Identifier: Apache-2.0
"""Do other people's clients and parsers agree with what we write?"""
