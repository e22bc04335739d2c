# SPDX-License-Identifier: Apache-2.0
"""Which texts are references, and to which secret do they lead?"""

from __future__ import annotations

import pytest

from pylae.errors import SchemaViolation, SettingsError
from pylae.schema import Record, field, kinds, schema_of
from pylae.sdk.references import resolved
from pylae.vaults import InvalidReference, Reference, Vaults, enabled_kinds, is_reference, parse

ENVIRON = {
    "MY_SECRET": "one",
    "MY_SECRET_PREVIOUS": "zero",
    "APP_MY_SECRET": "of the app",
    "APP_MY_SECRET_PREVIOUS": "of the app before",
    "EMPTY": "",
    "OBJECT": '{"password": "p", "number": 5, "inner": {"a": "b"}, "a/b": "slash"}',
    "LIST": '["password"]',
    "DEEP": "[" * 100_000,
}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("{vault://env/my-secret}", Reference("env", "my-secret")),
        ("{vault://env/my-secret/password}", Reference("env", "my-secret", "password")),
        ("{vault://my-env/a/b/c}", Reference("my-env", "a/b", "c")),
        ("{vault://env/s#2}", Reference("env", "s", version=2)),
        ("{vault://env/s/k?prefix=A_&ttl=30#1}", Reference("env", "s", "k", 1, {"prefix": "A_", "ttl": "30"})),
        ("{vault://env/my%2Dsecret/a%2Fb}", Reference("env", "my-secret", "a/b")),
    ],
)
def test_a_reference_has_parts(text: str, reference: Reference) -> None:
    assert parse(text) == reference
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{vault://}",
        "{vault://env}",
        "{vault://env/}",
        "{vault:///secret}",
        "{vault://ENV/secret}",
        "{vault://env/secret#two}",
        "{vault://env/secret#}",
        "vault://env/secret",
        "{vault://env/secret",
        " {vault://env/secret}",
        "Bearer {vault://env/secret}",
        "{vault://env/a}{vault://env/b}",
        "{vault://env/" + "a" * 9000 + "}",
        "{vault://env//key}",
    ],
)
def test_what_is_not_a_whole_reference_is_none(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)


ODD = (
    "{vault://env/a}b}",
    "{vault://env/{x}}",
    "{vault://env/a}{vault://env/b}",
    "{vault://env/a}\n{vault://env/b}",
    "{vault://env/a}\n",
    "{vault://env/{vault://env/a}}",
    "{{vault://env/a}}",
    "{vault://env/a/}",
    "{vault://}",
    "{vault:/env/a}",
)


class Refers(Record):
    password: str | None = field(kinds.string(len_max=3), referenceable=True, doc="Short.")


@pytest.mark.parametrize("text", ODD)
def test_what_is_no_reference_is_held_to_the_rules_of_its_field(text: str) -> None:
    assert not is_reference(text)
    assert resolved(Refers, {"password": text}, lambda _: "secret") == {"password": text}
    with pytest.raises(SchemaViolation) as caught:
        schema_of(Refers).insert({"password": text})
    assert caught.value.fields == {"password": "length must be at most 3"}


def test_what_is_a_reference_is_held_to_no_rule_and_resolved() -> None:
    text = "{vault://env/a-longer-one}"
    assert schema_of(Refers).insert({"password": text}) == {"password": text}
    assert resolved(Refers, {"password": text}, lambda _: "secret") == {"password": "secret"}


def test_only_text_is_a_reference() -> None:
    assert not any(map(is_reference, (None, 5, b"{vault://env/a}", ["{vault://env/a}"])))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("{vault://env/my-secret}", "one"),
        ("{vault://env/MY_secret#1}", "one"),
        ("{vault://env/my-secret#2}", "zero"),
        ("{vault://env/my-secret?prefix=app-}", "of the app"),
        ("{vault://mine/my-secret}", "of the app"),
        ("{vault://mine/my-secret#2}", "of the app before"),
        ("{vault://bare/my-secret}", "one"),
        ("{vault://env/object/password}", "p"),
        ("{vault://env/object/a%2Fb}", "slash"),
        ("{vault://env/empty}", ""),
    ],
)
def test_a_secret_is_found_in_the_environment(text: str, secret: str) -> None:
    rows = {
        "mine": {"prefix": "mine", "name": "env", "config": {"prefix": "APP_"}},
        "bare": {"prefix": "bare", "name": "env", "config": {"prefix": None}},
    }
    vaults = Vaults(environ=ENVIRON)
    assert vaults.get(text, rows) == secret
    # Control works the row in, so that a worker needs none.
    assert vaults.get(str(vaults.expanded(parse(text), rows))) == secret


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{vault://env/nothing}", "the environment has no variable NOTHING"),
        ("{vault://env/my-secret#3}", "there is no version 3"),
        ("{vault://env/my-secret/password}", "the secret is not a JSON object"),
        ("{vault://env/list/password}", "the secret is not a JSON object"),
        ("{vault://env/deep/password}", "the secret is not a JSON object"),
        ("{vault://env/object/nothing}", "the secret has no member `nothing` that is a string"),
        ("{vault://env/object/number}", "the secret has no member `number` that is a string"),
        ("{vault://env/object/inner}", "the secret has no member `inner` that is a string"),
        ("{vault://hcv/my-secret}", "there is no vault `hcv`"),
    ],
)
def test_what_cannot_be_had_is_said_without_the_secret(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Vaults(environ=ENVIRON).get(text)
    assert str(caught.value).startswith(f"{text}: {reason}")
    assert not any(secret and secret in str(caught.value).replace(text, "") for secret in ENVIRON.values())


def test_the_prefix_of_the_settings_is_for_the_kind_and_not_for_rows() -> None:
    vaults = Vaults(env_prefix="app_", environ=ENVIRON)
    assert vaults.get("{vault://env/my-secret}") == "of the app"
    row = {"prefix": "bare", "name": "env", "config": {"prefix": None}}
    assert vaults.get("{vault://bare/my-secret}", {"bare": row}) == "one"


def test_vaults_are_switched_off_and_named() -> None:
    assert enabled_kinds(["bundled"]) == enabled_kinds(["env"]) == ("env",)
    assert enabled_kinds(["off"]) == ()
    with pytest.raises(SettingsError, match="vaults: the vault `hcv` is not installed"):
        enabled_kinds(["env", "hcv"])
    with pytest.raises(InvalidReference, match="the vault `env` is switched off"):
        Vaults((), environ=ENVIRON).get("{vault://env/my-secret}")
