# SPDX-License-Identifier: Apache-2.0
"""Which causes are there? Importing this package registers them all, in the order of the table."""

from tests.matrix.causes import (  # noqa: F401, I001 - the order is that of the table
    names,
    network,
    connections,
    answers,
    protocols,
    encryption,
    timeouts,
    keeping,
    balancers,
    answers_behind,
    plugins,
    gateway,
    clients,
)
