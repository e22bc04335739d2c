# SPDX-License-Identifier: Apache-2.0
"""Do the plugins that say who may pass work with the real systems behind them?"""
