# SPDX-License-Identifier: Apache-2.0
"""Does the doctor find what is wrong, say nothing where nothing is, and survive whom it looks at?"""
