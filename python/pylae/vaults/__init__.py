# SPDX-License-Identifier: Apache-2.0
"""Where do secrets lie that a setting or a plugin's configuration only names?"""

from pylae.vaults.reference import InvalidReference, Reference, is_reference, parse
from pylae.vaults.vaults import KINDS, UnresolvedReference, VaultRows, Vaults, enabled_kinds

__all__ = [
    "KINDS",
    "InvalidReference",
    "Reference",
    "UnresolvedReference",
    "VaultRows",
    "Vaults",
    "enabled_kinds",
    "is_reference",
    "parse",
]
