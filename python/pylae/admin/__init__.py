# SPDX-License-Identifier: Apache-2.0
"""How is the gateway told what to do? The Admin API, made from the entities' declarations."""
