# SPDX-License-Identifier: Apache-2.0
"""Which things does the gateway keep, and where are they declared?"""

from pylae.entities.registry import CORE, add, children_of, enable_plugins, registry, schema, use_router_flavor

__all__ = ["CORE", "add", "children_of", "enable_plugins", "registry", "schema", "use_router_flavor"]
