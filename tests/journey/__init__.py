# SPDX-License-Identifier: Apache-2.0
"""Does a request survive the whole walk, over real sockets?"""
