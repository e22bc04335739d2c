# SPDX-License-Identifier: Apache-2.0
"""Does mtls-auth let pass whom trusted certificates stand for, and nobody else?"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pylae.plugins.mtls_auth.entities import MtlsAuthCredential, mapping_of
from pylae.plugins.mtls_auth.plugin import MtlsAuth
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import START_MS, MemoryExchange, Scene, validated

NOW: Final = datetime.datetime.fromtimestamp(START_MS / 1000, datetime.UTC)
DAY: Final = datetime.timedelta(days=1)
CA_ID: Final = "ca111111-1111-4111-8111-111111111111"
OTHER_CA_ID: Final = "ca222222-2222-4222-8222-222222222222"
ALICE: Final[dict[str, Any]] = {
    "id": "a1111111-1111-4111-8111-111111111111",
    "username": "alice",
    "custom_id": "42",
    "created_at": 1,
}
BOB: Final[dict[str, Any]] = {"id": "a2222222-2222-4222-8222-222222222222", "username": "bob", "custom_id": None, "created_at": 1}


class Signer:
    """A key with a certificate, which may sign others."""

    def __init__(self, name: x509.Name, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.name, self.certificate, self.key = name, certificate, key

    @property
    def der(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def row(self, id_: str) -> dict[str, Any]:
        """A row of `ca_certificates`."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return {"id": id_, "cert": pem, "created_at": 1, "updated_at": 1, "tags": None}


def named(common_name: str | None = None) -> x509.Name:
    """A subject."""
    return x509.Name([] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def signed(
    name: x509.Name,
    by: Signer | None = None,
    *,
    alternatives: Sequence[x509.GeneralName] | None = None,
    is_authority: bool = False,
    until: datetime.timedelta = DAY,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> Signer:
    """A key and its certificate, signed by `by` or itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(by.name if by else name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW - DAY).not_valid_after(NOW + until)
    builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    if alternatives is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usage is not None and not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Signer(name, builder.sign(by.key if by else key, hashes.SHA256()), key)


ROOT: Final = signed(named("Root"), is_authority=True, until=10 * DAY)
MIDDLE: Final = signed(named("Middle"), ROOT, is_authority=True)
OTHER: Final = signed(named("Other"), is_authority=True)
LEAF: Final = signed(named("alice"), ROOT)
ROWS: Final[dict[str, Any]] = {
    "consumers": [ALICE, BOB],
    "ca_certificates": [ROOT.row(CA_ID), OTHER.row(OTHER_CA_ID)],
}


def shown(*chain: Signer) -> Callable[[MemoryExchange], None]:
    """A client that shows these."""

    def present(exchange: MemoryExchange) -> None:
        exchange.client.certificate_chain = [one.der for one in chain] or None

    return present


def scene_with(*chain: Signer, rows: dict[str, Any] = ROWS, **config: Any) -> Scene:
    """The plugin under a configuration, with a client that shows a chain."""
    given = {"ca_certificates": [CA_ID], "revocation_check_mode": "SKIP", **config}
    return Scene(MtlsAuth, given, rows=rows, prepare_exchange=shown(*chain))


def test_trusted_certificate_passes_and_tells_the_upstream_who_it_is() -> None:
    with scene_with(LEAF) as scene:
        outcome = scene.send(headers={"X-Consumer-Username": "bob", "X-Anonymous-Consumer": "true"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert (headers["x-consumer-id"], headers["x-consumer-username"], headers["x-consumer-custom-id"]) == (
        ALICE["id"],
        "alice",
        "42",
    )
    assert headers["x-credential-identifier"] == "alice"
    assert "x-anonymous-consumer" not in headers
    facts = outcome.exchange.ctx["auth.facts"]
    assert (facts.methods, facts.subject, facts.issuer) == (["mtls-auth"], "CN=alice", "CN=Root")
    assert facts.certificate_fingerprint == LEAF.certificate.fingerprint(hashes.SHA256()).hex()


def test_no_certificate_is_refused() -> None:
    with scene_with() as scene:
        outcome = scene.send()
    assert (outcome.status, outcome.json()["message"]) == (401, "No required TLS certificate was sent")
    assert outcome.upstream is None


@pytest.mark.parametrize(
    "chain",
    [
        [signed(named("alice"))],
        [signed(named("alice"), OTHER)],
        [signed(named("alice"), signed(named("Root"), is_authority=True))],
        [signed(named("alice"), ROOT, until=-datetime.timedelta(hours=1))],
        [signed(named("alice"), ROOT, usage=ExtendedKeyUsageOID.SERVER_AUTH)],
        [signed(named("alice"), MIDDLE)],
        [signed(named("alice"), LEAF), LEAF],
        [ROOT],
        [MIDDLE],
    ],
    ids=[
        "self",
        "other_authority",
        "same_name",
        "expired",
        "server_usage",
        "middle_missing",
        "by_no_authority",
        "root",
        "authority",
    ],
)
def test_untrusted_certificate_is_refused(chain: list[Signer]) -> None:
    with scene_with(*chain) as scene:
        outcome = scene.send()
        again = scene.send()
    for refused in (outcome, again):
        assert (refused.status, refused.json()["message"]) == (401, "TLS certificate failed verification")
    assert any("certificate refused" in text for _, text in outcome.exchange.lines)


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"\xff" * 100, LEAF.der[:-10], LEAF.der + b"\x00"])
def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    def present(exchange: MemoryExchange) -> None:
        exchange.client.certificate_chain = [der]

    config = {"ca_certificates": [CA_ID]}
    with Scene(MtlsAuth, config, rows=ROWS, prepare_exchange=present) as scene:
        assert scene.send().json()["message"] == "TLS certificate failed verification"


def test_intermediates_may_come_from_the_client_or_the_configuration() -> None:
    leaf = signed(named("alice"), MIDDLE)
    with scene_with(leaf, MIDDLE) as scene:
        assert scene.send().status == 200
    rows = {**ROWS, "ca_certificates": [ROOT.row(CA_ID), MIDDLE.row(OTHER_CA_ID)]}
    with scene_with(leaf, rows=rows, ca_certificates=[CA_ID, OTHER_CA_ID]) as scene:
        assert scene.send().status == 200


def test_intermediate_alone_is_an_anchor_only_where_partial_chains_are_allowed() -> None:
    leaf = signed(named("alice"), MIDDLE)
    rows = {**ROWS, "ca_certificates": [MIDDLE.row(CA_ID)]}
    with scene_with(leaf, rows=rows) as scene:
        assert scene.send().status == 401
    with scene_with(leaf, rows=rows, allow_partial_chain=True) as scene:
        assert scene.send().status == 200


def test_expired_authority_vouches_for_nobody() -> None:
    old = signed(named("Old"), is_authority=True, until=-datetime.timedelta(hours=1))
    with scene_with(signed(named("alice"), old), rows={**ROWS, "ca_certificates": [old.row(CA_ID)]}) as scene:
        assert scene.send().status == 401


def test_authority_that_is_not_there_vouches_for_nobody() -> None:
    with scene_with(LEAF, rows={**ROWS, "ca_certificates": []}) as scene:
        assert scene.send().status == 401
        assert any("vouches for nobody" in text for _, text in scene.host.lines)


@pytest.mark.parametrize(
    ("alternatives", "username"),
    [
        ([x509.RFC822Name("alice@a.test")], "alice@a.test"),
        ([x509.DNSName("no.test"), x509.DNSName("api.a.test")], "api.a.test"),
        ([x509.UniformResourceIdentifier("spiffe://a.test/alice")], "spiffe://a.test/alice"),
        ([x509.DirectoryName(named("al"))], "CN=al"),
    ],
)
def test_alternative_names_stand_for_consumers(alternatives: list[x509.GeneralName], username: str) -> None:
    rows = {**ROWS, "consumers": [{**ALICE, "username": username}]}
    with scene_with(signed(named(), ROOT, alternatives=alternatives), rows=rows) as scene:
        outcome = scene.send()
    assert outcome.status == 200
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Credential-Identifier") == username


def test_common_name_does_not_count_beside_alternative_names() -> None:
    with scene_with(signed(named("alice"), ROOT, alternatives=[x509.DNSName("nobody.test")])) as scene:
        assert scene.send().status == 401


def test_consumer_by_says_which_fields_are_compared() -> None:
    leaf = signed(named("42"), ROOT)
    with scene_with(leaf) as scene:
        assert scene.send().status == 200
    with scene_with(leaf, consumer_by=["username"]) as scene:
        assert scene.send().status == 401
    with scene_with(LEAF, consumer_by=[]) as scene:
        assert scene.send().status == 401


def mapping(id_: str, name: str, consumer: dict[str, Any], authority: str | None = None) -> dict[str, Any]:
    """A row of `mtls_auth_credentials` as it is stored."""
    row = {"id": id_, "subject_name": name, "consumer": {"id": consumer["id"]}, "tags": None}
    row["ca_certificate"] = {"id": authority} if authority else None
    MtlsAuthCredential.complete(row)
    return row


def test_mappings_come_before_consumers_and_those_of_an_authority_first() -> None:
    first, second = "c1111111-1111-4111-8111-111111111111", "c2222222-2222-4222-8222-222222222222"
    of_any, of_root, of_other = (
        mapping(first, "alice", BOB),
        mapping(second, "alice", ALICE, CA_ID),
        mapping(second, "alice", ALICE, OTHER_CA_ID),
    )
    for mappings, expected, identifier in [
        ([of_any], "bob", first),
        ([of_any, of_root], "alice", second),
        ([of_any, of_other], "bob", first),
    ]:
        with scene_with(LEAF, rows={**ROWS, "mtls_auth_credentials": mappings}) as scene:
            outcome = scene.send()
        assert outcome.upstream is not None
        assert outcome.upstream.get_header("X-Consumer-Username") == expected
        assert outcome.upstream.get_header("X-Credential-Identifier") == identifier


def test_mapping_is_of_an_authority_and_a_name() -> None:
    assert mapping_of(None, "a b") == "* a b"
    assert mapping_of(CA_ID, "a b") == f"{CA_ID} a b"


@pytest.mark.parametrize("default", ["bob", BOB["id"]])
def test_default_consumer_is_whom_a_trusted_certificate_without_consumer_stands_for(default: str) -> None:
    with scene_with(signed(named("carol"), ROOT), default_consumer=default, anonymous="alice") as scene:
        outcome = scene.send()
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Consumer-Username") == "bob"
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None
    with scene_with(signed(named("bob")), default_consumer=default) as scene:
        assert scene.send().status == 401


@pytest.mark.parametrize("chain", [[], [signed(named("alice"))], [signed(named("carol"), ROOT)]])
def test_refused_client_passes_as_the_anonymous_consumer(chain: list[Signer]) -> None:
    with scene_with(*chain, anonymous="bob") as scene:
        outcome = scene.send(headers={"X-Client-Cert-Dn": "CN=alice"})
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Consumer-Username") == "bob"
    assert outcome.upstream.get_header("X-Anonymous-Consumer") == "true"
    assert outcome.upstream.get_header("X-Client-Cert-Dn") is None


@pytest.mark.parametrize(("group_by", "groups"), [("CN", ["carol"]), ("DN", ["CN=carol"]), (None, None)])
def test_without_lookup_every_trusted_certificate_passes(group_by: str | None, groups: list[str] | None) -> None:
    leaf = signed(named("carol"), ROOT, alternatives=[x509.DNSName("a.test"), x509.RFC822Name("c@a.test")])
    with scene_with(leaf, skip_consumer_lookup=True, authenticated_group_by=group_by) as scene:
        outcome = scene.send(headers={"X-Client-Cert-Dn": "CN=forged", "X-Consumer-Username": "alice"})
    assert outcome.status == 200
    assert outcome.upstream is not None
    headers = outcome.upstream.get_headers()
    assert (headers["x-client-cert-dn"], headers["x-client-cert-san"]) == ("CN=carol", "a.test,c@a.test")
    assert "x-consumer-username" not in headers
    assert outcome.exchange.ctx.get("authenticated_groups") == groups
    assert outcome.exchange.client.credential is not None


def test_control_characters_in_names_reach_no_header_and_stand_for_nobody() -> None:
    name = "alice\r\nX-Consumer-Username: root"
    rows = {**ROWS, "consumers": [{**ALICE, "username": name}]}
    with scene_with(signed(named(name), ROOT), rows=rows) as scene:
        assert scene.send().status == 401
    with scene_with(signed(named(name), ROOT), skip_consumer_lookup=True) as scene:
        outcome = scene.send()
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Client-Cert-Dn") == "CN=alice\\0d\\0aX-Consumer-Username: root"


def test_client_authenticated_by_another_plugin_passes_where_anonymous_is_set() -> None:
    def authenticate(exchange: MemoryExchange) -> None:
        exchange.client.authenticate(ALICE, {"id": "another plugin's"})

    config = {"ca_certificates": [CA_ID], "anonymous": "bob"}
    with Scene(MtlsAuth, config, rows=ROWS, prepare_exchange=authenticate) as scene:
        outcome = scene.send()
    assert outcome.upstream is not None
    assert outcome.upstream.get_header("X-Anonymous-Consumer") is None


def test_known_certificate_asks_nobody_until_something_changes() -> None:
    with scene_with(LEAF) as scene:
        scene.send()
        asked = len(scene.host.calls)
        assert scene.send().status == 200
        assert len(scene.host.calls) == asked
        scene.host.change("consumers", ALICE["id"], username="alicia")
        assert scene.send().status == 401
        scene.host.change("consumers", ALICE["id"], username="alice")
        assert scene.send().status == 200
        scene.host.remove("ca_certificates", CA_ID)
        assert scene.send().json()["message"] == "TLS certificate failed verification"


def test_certificate_is_not_known_longer_than_it_is_good() -> None:
    leaf = signed(named("alice"), ROOT, until=datetime.timedelta(seconds=30))
    with scene_with(leaf) as scene:
        assert scene.send().status == 200
        scene.clock.turn(seconds=31)
        assert scene.send().status == 401


def test_authorities_are_named_where_that_is_wanted() -> None:
    for wanted, names in [(True, [ROOT.certificate.subject.public_bytes()]), (False, [])]:
        with scene_with(LEAF, send_ca_dn=wanted) as scene:
            exchange = scene.send().exchange
            assert isinstance(scene.plugin, MtlsAuth)
            asyncio.run(scene.plugin.certificate(exchange, scene.config))
        assert exchange.client.authorities == names


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"ca_certificates": []},
        {"ca_certificates": ["no uuid"]},
        {"ca_certificates": [CA_ID], "revocation_check_mode": "MAYBE"},
        {"ca_certificates": [CA_ID], "authenticated_group_by": "OU"},
        {"ca_certificates": [CA_ID], "consumer_by": ["id"]},
        {"ca_certificates": [CA_ID], "http_proxy_host": "proxy.test"},
    ],
)
def test_bad_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        validated(MtlsAuth, config)
