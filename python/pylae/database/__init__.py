# SPDX-License-Identifier: Apache-2.0
"""Where is the configuration kept, and what may be done to it?"""
