# SPDX-License-Identifier: Apache-2.0
"""Do the supervisor and the command line keep the gateway's processes as they promise?"""
