# SPDX-License-Identifier: Apache-2.0
"""Does an explanation say what the facts show, and no more?"""
