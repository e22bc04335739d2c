# SPDX-License-Identifier: Apache-2.0
"""Does jwt work in a real gateway, with tokens that another library signed?"""

from __future__ import annotations

import json
import time

import pytest

from tests.auth.keys import SECRET, public_pem, signed
from tests.support.blueprints import Blueprints, Entity, unique
from tests.support.gateway import Gateway
from tests.support.origin import Origin

WORKERS = 2
ALGORITHMS = [f"{family}{size}" for family in ("HS", "RS", "PS", "ES") for size in (256, 384, 512)] + ["EdDSA"]


def credential(blueprints: Blueprints, algorithm: str = "HS256", consumer: Entity | None = None) -> Entity:
    fields = {"secret": SECRET} if algorithm.startswith("HS") else {"rsa_public_key": public_pem(algorithm)}
    owner = consumer or blueprints.consumer()
    made: Entity = blueprints.admin.post(
        f"/consumers/{owner['id']}/jwt", {"key": unique("issuer"), "algorithm": algorithm, **fields}
    )
    blueprints.gateway.settle()
    return made


def bearer(issuer: Entity, **claims: object) -> str:
    return "Authorization: Bearer " + signed({"iss": issuer["key"], **claims}, issuer["algorithm"])


@pytest.fixture(scope="module")
def path(blueprints: Blueprints, echo: Origin) -> str:
    return blueprints.plugged(echo, "jwt", claims_to_verify=["exp"], cookie_names=["token"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_of_another_library(gateway: Gateway, blueprints: Blueprints, echo: Origin, path: str, algorithm: str) -> None:
    issuer = credential(blueprints, algorithm)
    right = bearer(issuer, exp=int(time.time()) + 60)
    for _ in range(4):
        assert gateway.get(path, right).status == 200
        assert echo.last.header("X-Consumer-ID") == issuer["consumer"]["id"]
        assert echo.last.header("X-Credential-Identifier") == issuer["key"]


def test_token_in_query_and_cookie(gateway: Gateway, blueprints: Blueprints, path: str) -> None:
    token = bearer(credential(blueprints), exp=time.time() + 60).split()[-1]
    assert gateway.get(f"{path}?a=b&jwt={token}").status == 200
    assert gateway.get(path, f"Cookie: a=b; token={token}").status == 200
    assert gateway.get(f"{path}?jwt={token}", f"Authorization: Bearer {token}").status == 200


def test_refusal_is_plain_json(gateway: Gateway, path: str) -> None:
    reply = gateway.get(path, "Accept: text/html")
    assert (reply.status, json.loads(reply.body)) == (401, {"message": "Unauthorized"})
    assert reply.header("Content-Type") == "application/json; charset=utf-8"
    assert reply.header("WWW-Authenticate") == "Bearer"
    reply = gateway.get(path, "Authorization: Bearer a.b.c")
    assert (reply.status, json.loads(reply.body)) == (401, {"message": "Bad token; invalid JSON"})
    assert reply.header("WWW-Authenticate") == 'Bearer error="invalid_token"'


def test_a_new_key_counts_at_once_on_every_worker(gateway: Gateway, blueprints: Blueprints, path: str) -> None:
    issuer = credential(blueprints)
    right = bearer(issuer, exp=int(time.time()) + 60)
    assert {gateway.get(path, right).status for _ in range(8)} == {200}
    place = f"/consumers/{issuer['consumer']['id']}/jwt/{issuer['id']}"
    blueprints.admin.call("PATCH", place, {"secret": "another secret of more than thirty-two bytes"})
    gateway.settle()
    assert {gateway.get(path, right).status for _ in range(8)} == {401}


def test_secret_in_a_log(gateway: Gateway, blueprints: Blueprints, path: str) -> None:
    issuer = credential(blueprints)
    right = bearer(issuer, exp=int(time.time()) + 60)
    wrong = right[:-4] + "AAAA"
    assert [gateway.get(path, line).status for line in (right, wrong)] == [200, 401]
    for log in gateway.prefix.glob("logs/*"):
        text = log.read_text(errors="replace")
        assert SECRET not in text, log
        assert right.split()[-1][:-4] not in text, log
