# SPDX-License-Identifier: Apache-2.0
"""Does a running gateway keep to its own document, whatever it is sent and in whatever order?

Schemathesis makes calls from the document, right ones and wrong ones, and follows its links from what was made to
where it is found, changed and deleted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.certificates import self_signed
from tests.support.gateway import Gateway

COMMAND: Final = Path(sys.executable).with_name("schemathesis")
CI_S: Final = 30
NIGHTLY_S: Final = 300
PATIENCE_S: Final = 120
SEED: Final = 3
# Not `unsupported_method`: it wants `Allow` on a 405, where Kong has none.
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
CHAINED: Final = (
    "services",
    "routes",
    "consumers",
    "plugins",
    "upstreams",
    "targets",
    "certificates",
    "ca_certificates",
    "snis",
    "key_sets",
    "vaults",
    "keyauth_credentials",
)
LEFT_OUT: Final = frozenset(
    {"id", "created_at", "updated_at", "url", "cert_digest", "cert_alt", "key_alt", "hosts", "headers", "snis"}
)
EASY_PLUGINS: Final = ("key-auth", "correlation-id", "cors", "prometheus", "request-termination")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    # Kong's new DNS client is the one that counts; without it `/status/dns` answers 501.
    with Gateway({"new_dns_client": "on"}) as started:
        yield started


def judge(gateway: Gateway, folder: Path, document: Path | str, seconds: int, *more: str) -> str:
    """What Schemathesis has to say; the test fails when that is anything bad."""
    gateway.error_log.mark()
    command = [str(COMMAND), "--config-file", str(_configuration(folder)), "run", str(document)]
    command += ["--no-color", "--warnings", "off"]
    command += ["--url", f"http://127.0.0.1:{gateway.admin_port}", "--checks", ",".join(CHECKS), "--continue-on-failure"]
    command += ["--seed", str(SEED), "--max-time", str(seconds), "--request-timeout", "10", "--generation-database", "none"]
    done = subprocess.run(
        [*command, *more],
        cwd=folder,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=seconds + PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert gateway.error_log.grave_lines() == []
    return done.stdout


def _configuration(folder: Path) -> Path:
    """Links are those that the document has, no guessed ones."""
    path = folder / "schemathesis.toml"
    path.write_text("[phases.stateful]\ninference.algorithms = []\n")
    return path


def anything(gateway: Gateway, folder: Path, seconds: int) -> None:
    """Calls of every operation, right and wrong, with JSON and with forms."""
    document = f"http://127.0.0.1:{gateway.admin_port}/openapi.json"
    judge(gateway, folder, document, seconds, "--phases", "coverage,fuzzing")


def chains(gateway: Gateway, folder: Path, seconds: int) -> None:
    """Right calls, each with what the ones before it have made."""
    path = folder / "openapi.json"
    path.write_text(json.dumps(Narrowed(gateway.admin.get("/openapi.json"), folder).document))
    talk = judge(gateway, folder, path, seconds, "--phases", "stateful", "--mode", "positive")
    found = re.search(r"API Links:\s+(\d+) covered", talk)
    assert found, talk
    assert int(found[1]) >= 10, talk


class Narrowed:
    """The document of some entities, asking for less: bodies of it nearly always keep to the rules between fields too.

    A chain of calls ends where a call is refused, so what depends on other fields or other rows is left out of bodies.
    """

    def __init__(self, document: Json, folder: Path) -> None:
        self.document = document
        self._schemas: Json = document["components"]["schemas"]
        made, authority = self_signed(folder, "made.test"), self_signed(folder, "ca.test", is_authority=True)
        self._certificates = {
            "certificates": {"cert": made.certificate.read_text(), "key": made.key.read_text()},
            "ca_certificates": {"cert": authority.certificate.read_text()},
        }
        document["paths"] = {path: self._item(item) for path, item in document["paths"].items() if self._is_chained(item)}
        kept = {operation["operationId"] for item in document["paths"].values() for operation in operations(item)}
        for item in document["paths"].values():
            for operation in operations(item):
                for answer in operation["responses"].values():
                    links = answer.get("links", {})
                    answer["links"] = {name: link for name, link in links.items() if name in kept}
        for name in list(self._schemas):
            table, view = name.split(".")[0], name.rsplit(".")[-1]
            if table in CHAINED and view in ("input", "patch") and "properties" in self._schemas[name]:
                self._narrow(table, self._schemas[name])
        for view in ("input", "patch"):
            choices = [{"$ref": f"#/components/schemas/plugins.{plugin}.{view}"} for plugin in EASY_PLUGINS]
            self._schemas[f"plugins.{view}"] = {"anyOf": choices}

    def _is_chained(self, item: Json) -> bool:
        return all(set(operation["tags"]) <= set(CHAINED) for operation in operations(item))

    def _item(self, item: Json) -> Json:
        for operation in operations(item):
            content = operation.get("requestBody", {}).get("content", {})
            for kind in list(content):
                if kind != "application/json":
                    del content[kind]
        return item

    def _narrow(self, table: str, schema: Json) -> None:
        properties: Json = schema["properties"]
        for check in schema.pop("x-entity-checks", ()):
            for kind, about in check.items():
                if kind.startswith("conditional"):
                    drop(schema, about["if_field"].split("."))
                    drop(schema, about.get("then_field", about["if_field"]).split("."))
        for name, declared in list(properties.items()):
            is_list_of_rows = declared.get("items", {}).get("format") == "uuid"
            is_needed = name in schema.get("required", ())
            if name in LEFT_OUT or ((is_list_of_rows or "x-references" in declared) and not is_needed):
                del properties[name]
            elif name in self._certificates.get(table, ()):
                properties[name] = {"const": self._certificates[table][name]}
            elif name in ("host", "host_header", "target", "username", "prefix", "name") and "const" not in declared:
                properties[name] = {"type": "string", "pattern": "^[a-z]{3,12}$"}
        if table == "routes":
            properties["paths"] = {"type": "array", "items": {"type": "string", "pattern": "^/[a-z]{1,9}$"}, "minItems": 1}
            schema["required"] = ["paths"]
        if table == "services" and "anyOf" in schema:
            del schema["anyOf"]
            schema["required"] = ["host"]


def operations(item: Json) -> Iterator[Json]:
    """What a path's item describes."""
    for method in ("get", "post", "put", "patch", "delete"):
        if method in item:
            yield item[method]


def drop(schema: Json, path: list[str]) -> None:
    """Takes a field out of a schema, however deep it is."""
    name, *inner = path
    if inner:
        drop(schema.get("properties", {}).get(name, {}), inner)
    elif name not in schema.get("required", ()):
        schema.get("properties", {}).pop(name, None)


@pytest.mark.timeout(CI_S + PATIENCE_S)
def test_answers_to_anything_keep_to_the_document(gateway: Gateway, tmp_path: Path) -> None:
    anything(gateway, tmp_path, CI_S)


@pytest.mark.timeout(CI_S + PATIENCE_S)
def test_answers_to_chains_of_calls_keep_to_the_document(gateway: Gateway, tmp_path: Path) -> None:
    chains(gateway, tmp_path, CI_S)


@pytest.mark.nightly
@pytest.mark.timeout(2 * (NIGHTLY_S + PATIENCE_S))
def test_answers_keep_to_the_document_for_long(gateway: Gateway, tmp_path: Path) -> None:
    anything(gateway, tmp_path, NIGHTLY_S)
    chains(gateway, tmp_path, NIGHTLY_S)


@pytest.mark.nightly
@pytest.mark.timeout(NIGHTLY_S + PATIENCE_S)
def test_answers_keep_to_the_document_without_a_database(tmp_path: Path) -> None:
    with Gateway({"database": "off", "new_dns_client": "on"}) as gateway:
        anything(gateway, tmp_path, NIGHTLY_S)
