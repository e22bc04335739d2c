# SPDX-License-Identifier: Apache-2.0
"""Which fields does the configuration have? One module per topic, each built on the one before; `config.Config` is the last."""
