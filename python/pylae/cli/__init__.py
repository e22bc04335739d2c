# SPDX-License-Identifier: Apache-2.0
"""What can be typed after `pylae`? One module per command."""
