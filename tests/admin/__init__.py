# SPDX-License-Identifier: Apache-2.0
"""Does the Admin API answer as Kong's does, and to nobody else?"""
