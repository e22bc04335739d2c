# SPDX-License-Identifier: Apache-2.0
"""What does a request cost, compared with nginx in the same minute on the same machine?"""
