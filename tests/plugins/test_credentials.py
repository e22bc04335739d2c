# SPDX-License-Identifier: Apache-2.0
"""In which form are the credentials kept that plugins bring?"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pylae.database.dao import Catalogue, Dao
from pylae.database.strategies.sqlite import SqliteStrategy
from pylae.entities import CORE
from pylae.errors import SchemaViolation, UniqueViolation
from pylae.plugins.basic_auth.entities import BasicauthCredential
from pylae.schema import schema_of
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])
ENTITIES = {entity.table: entity for entity in (*CORE, *(one for plugin in PLUGINS.values() for one in plugin.entities))}
PUBLIC_KEY_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA")


class Store:
    """A database with one Consumer."""

    def __init__(self, path: Path) -> None:
        self.catalogue = Catalogue(ENTITIES)
        self.strategy = SqliteStrategy(path, self.catalogue.tables)
        self.strategy.open()
        self.consumer = self.insert("consumers", username="alice")

    def insert(self, table: str, **values: Any) -> dict[str, Any]:
        with self.strategy.write() as transaction:
            return Dao(transaction, self.catalogue).insert(table, values)

    def owned(self, table: str, **values: Any) -> dict[str, Any]:
        """A credential of the Consumer."""
        return self.insert(table, consumer={"id": self.consumer["id"]}, **values)

    def update(self, table: str, row: dict[str, Any], **patch: Any) -> dict[str, Any]:
        with self.strategy.write() as transaction:
            return Dao(transaction, self.catalogue).update(table, row, patch)

    def upsert(self, table: str, row: dict[str, Any], **values: Any) -> dict[str, Any]:
        with self.strategy.write() as transaction:
            return Dao(transaction, self.catalogue).upsert(table, row, values)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "pylae.db")
    yield opened
    opened.strategy.close()


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def test_a_password_is_kept_as_kong_keeps_it(store: Store) -> None:
    row = store.owned("basicauth_credentials", username="alice", password="schön")
    assert row["password"] == _sha1("schön" + store.consumer["id"])


def test_a_password_is_hashed_once(store: Store) -> None:
    row = store.owned("basicauth_credentials", username="alice", password="first")
    renamed = store.update("basicauth_credentials", row, username="bob")
    assert renamed["password"] == row["password"]
    changed = store.update("basicauth_credentials", renamed, password="second")
    assert changed["password"] == _sha1("second" + store.consumer["id"])
    put = store.upsert(
        "basicauth_credentials", changed, username="carol", password="third", consumer={"id": store.consumer["id"]}
    )
    assert put["password"] == _sha1("third" + store.consumer["id"])


def test_a_password_that_was_hashed_elsewhere_can_be_kept_as_it_is() -> None:
    consumer = {"id": "11111111-1111-4111-8111-111111111111"}
    row = schema_of(BasicauthCredential).insert({"consumer": consumer, "username": "alice", "password": "hash"})
    assert row["password"] == "hash"


def test_a_secret_of_an_application_is_hashed_when_told_so(store: Store) -> None:
    plain = store.owned("oauth2_credentials", name="app", client_secret="plain")
    assert plain["client_secret"] == "plain"
    hashed = store.owned("oauth2_credentials", name="app", client_secret="secret", hash_secret=True)
    _, name, options, salt, key = hashed["client_secret"].split("$")
    assert (name, options) == ("pbkdf2-sha512", "i=10000,l=32")
    expected = hashlib.pbkdf2_hmac("sha512", b"secret", base64.b64decode(salt + "=="), 10_000, 32)
    assert base64.b64decode(key + "=") == expected
    renamed = store.update("oauth2_credentials", hashed, name="other", hash_secret=True)
    assert renamed["client_secret"] == hashed["client_secret"]


def test_what_is_not_given_is_made(store: Store) -> None:
    made = [
        store.owned("oauth2_credentials", name="app")["client_id"],
        store.owned("oauth2_credentials", name="app")["client_secret"],
        store.owned("jwt_secrets")["key"],
        store.owned("jwt_secrets")["secret"],
        store.owned("hmacauth_credentials", username="alice")["secret"],
        store.owned("keyauth_credentials")["key"],
    ]
    assert all(len(value) == 32 and value.isalnum() for value in made)
    assert len(set(made)) == len(made)


def test_a_group_is_given_once(store: Store) -> None:
    store.owned("acls", group="friends")
    with pytest.raises(UniqueViolation) as caught:
        store.owned("acls", group="friends")
    assert caught.value.body()["code"] == 5


@pytest.mark.parametrize("algorithm", PUBLIC_KEY_ALGORITHMS)
def test_a_signature_by_a_private_key_needs_its_public_key(store: Store, algorithm: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        store.owned("jwt_secrets", algorithm=algorithm, rsa_public_key="not a key")
    assert caught.value.fields == {
        "@entity": ["failed conditional validation given value of field 'algorithm'"],
        "rsa_public_key": "invalid key",
    }


def test_a_public_key_is_taken(store: Store) -> None:
    public_key = Ed25519PrivateKey.generate().public_key()
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert store.owned("jwt_secrets", algorithm="EdDSA", rsa_public_key=pem)["rsa_public_key"] == pem


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("https://app.test/back", None),
        ("app.test/back", "cannot parse 'app.test/back'"),
        ("https://app.test/back#here", "fragment not allowed in 'https://app.test/back#here'"),
    ],
)
def test_users_are_sent_back_to_a_whole_address(store: Store, uri: str, error: str | None) -> None:
    if error is None:
        assert store.owned("oauth2_credentials", name="app", redirect_uris=[uri])["redirect_uris"] == [uri]
        return
    with pytest.raises(SchemaViolation) as caught:
        store.owned("oauth2_credentials", name="app", redirect_uris=[uri])
    assert caught.value.fields == {"redirect_uris": [error]}
