# SPDX-License-Identifier: Apache-2.0
"""Is everything documented, typed, ordered, and has it units?"""
