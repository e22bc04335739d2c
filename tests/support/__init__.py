# SPDX-License-Identifier: Apache-2.0
"""Which real things do the tests stand on: a gateway, origins, clients, other people's servers?"""
