# SPDX-License-Identifier: Apache-2.0
"""Which servers that we did not write take part in the tests?"""
