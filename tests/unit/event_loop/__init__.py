# SPDX-License-Identifier: Apache-2.0
"""Do asyncio and the data plane share the worker's thread without harm to either?"""
