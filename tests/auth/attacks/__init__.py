# SPDX-License-Identifier: Apache-2.0
"""Does anything get round them? Each test is named after its attack."""
