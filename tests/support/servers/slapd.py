# SPDX-License-Identifier: Apache-2.0
"""How does a real OpenLDAP server answer for a small directory of our own?"""

from __future__ import annotations

import subprocess

from tests.support.certificates import Certificate
from tests.support.ports import free_port
from tests.support.servers.server import Server, find

BASE = "dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
SERVICE = f"cn=gateway,{BASE}"
SERVICE_PASSWORD = "gateways-own"

ENTRIES = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: ou=abroad,{PEOPLE}
objectClass: organizationalUnit
ou: abroad

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: {SERVICE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: gateway
userPassword: {SERVICE_PASSWORD}

dn: uid=alice,{PEOPLE}
objectClass: inetOrgPerson
uid: alice
cn: Alice Adams
sn: Adams
userPassword: alices-own

dn: uid=bob,ou=abroad,{PEOPLE}
objectClass: inetOrgPerson
uid: bob
cn: Bob, "the" + <Builder>
sn: Builder
userPassword: bobs:own

dn: uid=twin,{PEOPLE}
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: Twin
userPassword: twins-own

dn: uid=twin,ou=abroad,{PEOPLE}
objectClass: inetOrgPerson
uid: twin
cn: Twin
sn: Twin
userPassword: twins-own

dn: cn=dev,{GROUPS}
objectClass: groupOfNames
cn: dev
member: uid=alice,{PEOPLE}
member: uid=bob,ou=abroad,{PEOPLE}

dn: cn=ops,{GROUPS}
objectClass: groupOfNames
cn: ops
member: uid=alice,{PEOPLE}

dn: cn=admins,{PEOPLE}
objectClass: groupOfNames
cn: admins
member: uid=bob,ou=abroad,{PEOPLE}
"""
"""alice in dev and ops; bob, one level further down, in dev; a twin twice; a group admins that is not among the groups."""

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/pid
{tls}
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
directory {folder}/data
maxsize 16777216
dbnosync
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by self read by * none
"""


class Slapd(Server):
    """A slapd with the entries above. Only the gateway's own entry may search; everybody may read its own entry.

    Attributes:
        port: plain, and StartTLS if there is a certificate.
        tls_port: TLS from the first byte, if there is a certificate.
    """

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.port, self.tls_port = free_port(), free_port()
        super().__init__("slapd", [self.port, *([self.tls_port] if certificate else [])])
        self._has_tls = certificate is not None
        (self.folder / "data").mkdir()
        tls = f"TLSCertificateFile {certificate.certificate}\nTLSCertificateKeyFile {certificate.key}" if certificate else ""
        text = CONFIGURATION.format(folder=self.folder, base=BASE, service=SERVICE, tls=tls)
        (self.folder / "slapd.conf").write_text(text)
        (self.folder / "entries.ldif").write_text(ENTRIES)

    def arguments(self) -> list[str]:
        """Its own configuration and ports; in the foreground."""
        urls = f"ldap://127.0.0.1:{self.port}/" + (f" ldaps://127.0.0.1:{self.tls_port}/" if self._has_tls else "")
        return ["-f", str(self.folder / "slapd.conf"), "-h", urls, "-d", "stats"]

    def start(self) -> None:
        """Start it; the first time with the entries, added as an administrator would, so that overlays see them."""
        super().start()
        if (self.folder / "entries.ldif").exists():
            self.run("ldapadd", "-f", str(self.folder / "entries.ldif"))
            (self.folder / "entries.ldif").unlink()

    def change_password(self, name: str, password: str) -> None:
        """As its administrator."""
        self.run("ldappasswd", "-s", password, name)

    def run(self, program: str, *arguments: str) -> str:
        """What one of the `ldap-utils` says, run as the administrator."""
        found = find(program)
        assert found, f"{program} is not installed (scripts/ lists the packages)"
        url = f"ldap://127.0.0.1:{self.port}/"
        command = [found, "-x", "-H", url, "-D", f"cn=root,{BASE}", "-w", "root", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout

    def log(self) -> str:
        """Everything it logged: connections, binds and searches."""
        return (self.folder / "output").read_text(errors="replace")
