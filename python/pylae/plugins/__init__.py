# SPDX-License-Identifier: Apache-2.0
"""Which plugins come with the gateway? Each folder is one; they know nothing of each other."""
