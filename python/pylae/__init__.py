# SPDX-License-Identifier: Apache-2.0
"""Which version is this, and which Kong does it stand in for?"""

from typing import Final

__version__: Final = "0.1.0"
KONG_VERSION: Final = "3.10.0"
"""The Kong whose interfaces are kept; tools gate on it."""
