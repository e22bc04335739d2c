# SPDX-License-Identifier: Apache-2.0
"""What if the system that knows the client cannot be asked? The request fails closed, and the fault names the system."""

from __future__ import annotations


class SystemUnavailable(Exception):
    """Who the client is could not be asked: the answer is 500 in Kong's words, the fault `identity_system_failed`.

    Args:
        system: What was asked, as an operator calls it, without secrets: `LDAP server ldap://10.0.0.1:389`,
            `token issuer https://idp.test/`.
        reason: What went wrong: `connection refused`, `no answer within 5000 ms`.
    """

    fault = "identity_system_failed"

    def __init__(self, system: str, reason: str) -> None:
        super().__init__(f"{system}: {reason}")
        self.system = system
        self.reason = reason

    @property
    def said(self) -> str:
        """What the fault says, in one line."""
        return f"{self.system}: {self.reason}"
