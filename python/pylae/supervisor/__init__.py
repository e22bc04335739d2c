# SPDX-License-Identifier: Apache-2.0
"""Who opens the sockets, starts the processes and keeps them alive?"""
