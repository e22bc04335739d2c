# SPDX-License-Identifier: Apache-2.0
"""Does every database do what the gateway relies on?"""
