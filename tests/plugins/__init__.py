# SPDX-License-Identifier: Apache-2.0
"""Does what all plugins share work?"""
