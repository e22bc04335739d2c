# SPDX-License-Identifier: Apache-2.0
"""Do the views of an exchange show and change what they say?"""
