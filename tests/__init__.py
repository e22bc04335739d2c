# SPDX-License-Identifier: Apache-2.0
"""What makes the tests one package, so that every room's tests share `tests.support`?"""
