# SPDX-License-Identifier: Apache-2.0
"""What can hinder a directory from answering?"""

from __future__ import annotations


class LdapFailed(Exception):
    """No answer that could be used; the message says why, without secrets: `no answer within 5000 ms`."""


class ConnectionLost(LdapFailed):
    """The server closed the connection, as it may do at any time with an idle one."""
