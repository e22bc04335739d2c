# SPDX-License-Identifier: Apache-2.0
"""How does a certificate authority issue, revoke and say what it revoked? OpenSSL's own `ca` and `ocsp`."""

from __future__ import annotations

import datetime
import itertools
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.support.ports import free_port
from tests.support.servers.server import Server, find

CONFIGURATION = """
[ca]
default_ca = this
[this]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir/issued
certificate = $dir/ca.crt
private_key = $dir/ca.key
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 30
default_crl_days = 1
policy = any
unique_subject = no
[any]
commonName = optional
organizationName = optional
"""


def openssl(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """What the program prints; it must succeed."""
    program = find("openssl")
    assert program, "openssl is not installed"
    done = subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@dataclass(frozen=True)
class Issued:
    """A key and its certificate, as PEM files."""

    certificate: Path
    key: Path

    def with_chain(self, *others: Path) -> Issued:
        """The same with more certificates sent after it."""
        chain = self.certificate.with_suffix(f".chain{len(others)}.crt")
        chain.write_bytes(b"".join(path.read_bytes() for path in (self.certificate, *others)))
        return Issued(chain, self.key)


class OpensslAuthority:
    """A certificate authority in a folder.

    Args:
        folder: its own; made.
        name: its common name.
        above: who vouches for it; it is a root without.
        most_below: authorities that may stand below it in a chain.
        constraints: more extensions of its certificate, as OpenSSL's configuration writes them.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        above: OpensslAuthority | None = None,
        constraints: str = "",
        *,
        most_below: int | None = None,
    ) -> None:
        self.folder = folder
        (folder / "issued").mkdir(parents=True)
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("1000\n")
        (folder / "crlnumber").write_text("01\n")
        (folder / "openssl.cnf").write_text(CONFIGURATION.format(folder=folder))
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        self._numbers = itertools.count(1)
        limit = "" if most_below is None else f",pathlen:{most_below}"
        extensions = (
            f"basicConstraints=critical,CA:TRUE{limit}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
            f"{constraints}"
        )
        if above is None:
            config = folder / "root.cnf"
            config.write_text(
                f"[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nCN={name}\n[v3]\n{extensions}\n"
            )
            new_key(self._key)
            openssl("req", "-x509", "-new", "-key", self._key, "-days", "30", "-config", config, "-out", self.certificate)
        else:
            made = above.issue(name, extensions=extensions)
            made.certificate.rename(self.certificate)
            made.key.rename(self._key)

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.read_text()

    def issue(self, name: str, *, extensions: str = "extendedKeyUsage=clientAuth", subject: str = "", days: str = "") -> Issued:
        """A key with a certificate.

        Args:
            name: common name, unless `subject` says more.
            extensions: as OpenSSL's configuration writes them, one a line.
            subject: `/O=…/CN=…`.
            days: first and last moment, `20200101000000Z-20200201000000Z`; the next 30 days when empty.
        """
        stem = self.folder / f"{next(self._numbers)}-{''.join(letter for letter in name if letter.isalnum())}"
        issued = Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        new_key(issued.key)
        wanted = stem.with_suffix(".csr")
        openssl("req", "-new", "-key", issued.key, "-subj", subject or f"/CN={name}", "-utf8", "-out", wanted)
        extension_file = stem.with_suffix(".ext")
        extension_file.write_text(extensions + "\n")
        period: list[str] = ["-startdate", days.split("-")[0], "-enddate", days.split("-")[1]] if days else []
        config = self.folder / "openssl.cnf"
        given: list[str | Path] = [
            "-config",
            config,
            "-in",
            wanted,
            "-out",
            issued.certificate,
            "-extfile",
            extension_file,
            *period,
        ]
        openssl("ca", "-batch", "-notext", "-utf8", *given)
        return issued

    def issue_for(self, subject: x509.Name) -> Issued:
        """A key with a certificate for any subject, also for one that OpenSSL's command line cannot express."""
        authority = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        signer = load_pem_private_key(self._key.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        stem = self.folder / f"{next(self._numbers)}-any"
        issued = Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        new_key(issued.key)
        key = load_pem_private_key(issued.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(authority.subject).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        issued.certificate.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
        return issued

    def revoke(self, issued: Issued) -> None:
        """It is not good any more; lists and responders of later say so."""
        openssl("ca", "-config", self.folder / "openssl.cnf", "-revoke", issued.certificate)

    def revocation_list(self, *options: str) -> bytes:
        """A new one (DER)."""
        pem = openssl("ca", "-config", self.folder / "openssl.cnf", "-gencrl", *options)
        return openssl("crl", "-outform", "DER", stdin=pem)

    def responder(self, port: int, signer: Issued | None = None) -> OcspResponder:
        """Its OCSP responder, not started yet."""
        return OcspResponder(self, port, signer or Issued(self.certificate, self._key))


class OcspResponder(Server):
    """`openssl ocsp`; it reads what was revoked when it starts."""

    def __init__(self, authority: OpensslAuthority, port: int, signer: Issued) -> None:
        super().__init__("openssl", [port])
        self._authority, self._signer, self.port = authority, signer, port

    def _is_ready(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"{self.program} ended: {self.output()}"
        # It waits forever for the question of whoever connects and says nothing: it is not connected to.
        return "waiting for OCSP client connections" in self.output()

    def _end(self) -> None:
        # It goes on accepting after SIGTERM; there is nothing it could lose.
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def arguments(self) -> list[str]:
        """As its manual has it."""
        folder, certificate = self._authority.folder, self._authority.certificate
        given = {
            "-index": folder / "index.txt",
            "-port": self.port,
            "-rsigner": self._signer.certificate,
            "-rkey": self._signer.key,
            "-CA": certificate,
            "-ndays": 1,
        }
        return ["ocsp", "-ignore_err", *(str(part) for pair in given.items() for part in pair)]


class Files:
    """A web server of files in memory, by path.

    Attributes:
        content: what it serves; 503 for what is not there.
        asked: paths asked for, in order.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files.asked.append(self.path)
                # Through a proxy the whole address is asked for.
                body = files.content.get("/" + self.path.split("/", 3)[3] if self.path.startswith("http:") else self.path)
                self.send_response(503 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                """It is silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def url(self, path: str) -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def new_key(path: Path) -> None:
    """An ECDSA key, which is made at once."""
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
