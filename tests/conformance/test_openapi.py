# SPDX-License-Identifier: Apache-2.0
"""Does the document of the Admin API say what the running router serves, and can its readers rely on its form?"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylae.admin import openapi
from pylae.schema.openapi import RULE_KEYWORDS, ecma_pattern
from pylae.schema.rules import RULES
from pylae.sdk.loader import load
from tests.admin.process import ControlProcess
from tests.support.admin import Admin

METHODS = ("get", "put", "post", "patch", "delete")
# A row that is not there; a path is answered by its endpoint all the same.
NOBODY = "00000000-0000-4000-8000-000000000000"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlProcess]:
    with ControlProcess(tmp_path_factory.mktemp("prefix")) as process:
        yield process


@pytest.fixture(scope="module")
def admin(control: ControlProcess) -> Admin:
    return control.admin


@pytest.fixture(scope="module")
def document(admin: Admin) -> Json:
    found: Json = admin.get("/openapi.json")
    return found


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def parts(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)


def test_every_path_and_method_that_is_served_is_described_and_no_other(admin: Admin, document: Json) -> None:
    served = {}
    for path in admin.get("/endpoints")["data"]:
        answer = admin.call("OPTIONS", re.sub(r"{\w+}", NOBODY, path))
        # Some paths answer 404 whatever the method, as Kong's do: Targets are reached below their Upstream only.
        if answer.status == 204:
            served[path] = set(answer.headers["allow"].split(", "))
    described = {path: {method.upper() for method in METHODS if method in item} for path, item in document["paths"].items()}
    assert described.keys() == served.keys()
    for path, methods in described.items():
        head = {"HEAD"} if "GET" in methods else set()
        assert methods | head | {"OPTIONS"} == served[path], path


def test_the_reference_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert openapi.main(["--check"]) == 0, capsys.readouterr().err


def test_a_reference_out_of_date_is_told_and_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "openapi.json"
    assert openapi.main(["--check", "--file", str(file)]) == 1
    assert "--write" in capsys.readouterr().err
    assert openapi.main(["--write", "--file", str(file)]) == 0
    assert openapi.main(["--check", "--file", str(file)]) == 0


def test_the_reference_is_what_is_served(document: Json) -> None:
    assert json.loads(Path("docs/reference/openapi.json").read_text()) == document


def test_head_answers_as_get_without_a_body(admin: Admin) -> None:
    shown, head = admin.call("GET", "/openapi.json"), admin.call("HEAD", "/openapi.json")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == shown.headers["content-length"] == str(len(shown.body))


def test_it_is_openapi_3_1_and_every_schema_is_json_schema_2020_12(document: Json) -> None:
    import jsonschema_rs
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    jsonschema_rs.validator_for(OPENAPI_31).validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere(document: Json) -> None:
    for part in parts(document):
        if isinstance(part.get("$ref"), str):
            found: Any = document
            for name in part["$ref"].removeprefix("#/").split("/"):
                assert name in found, part["$ref"]
                found = found[name]


def test_operations_have_names_of_their_own_and_known_tags(document: Json) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert set(operation["tags"]) <= tags, (path, method)
        assert operation["summary"].endswith("."), (path, method)


def test_links_lead_from_what_was_made_to_where_it_is_found(document: Json) -> None:
    named = {operation["operationId"]: (path, operation) for path, _, operation in operations(document)}
    links = document["paths"]["/services"]["post"]["responses"]["201"]["links"]
    assert {"services.get", "services.patch", "services.delete", "services.routes.create"} <= links.keys()
    nested = document["paths"]["/services/{services}/routes"]["post"]["responses"]["201"]["links"]
    assert nested["services.routes.get"]["parameters"] == {
        "services": "$response.body#/service/id",
        "routes": "$response.body#/id",
    }
    for part in parts(document["paths"]):
        for link in part.get("links", {}).values():
            path, _ = named[link["operationId"]]
            assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", path))


def test_every_field_and_every_body_says_what_it_is(document: Json) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if name.endswith(".input") and "properties" in schema:
            assert schema["description"], name
            for field, declared in schema["properties"].items():
                assert declared.get("description") or "const" in declared or declared == {"type": "null"}, f"{name}.{field}"


def test_plugins_are_told_apart_by_name(admin: Admin, document: Json) -> None:
    schemas = document["components"]["schemas"]
    names = set(admin.get("/plugins/enabled")["enabled_plugins"])
    for view in ("", ".input"):
        plugins = schemas[f"plugins{view}"]
        assert plugins["discriminator"]["mapping"].keys() == names
        assert len(plugins["oneOf"]) == len(names)
    for name, plugin in load(["bundled"]).items():
        assert ("does not yet work" in schemas[f"plugins.{name}.input"]["description"]) is not plugin.done, name
    limits = schemas["plugins.rate-limiting.input"]["properties"]["config"]["properties"]
    assert limits["policy"]["enum"] == ["local", "cluster", "redis", None]
    assert limits["policy"]["default"] == "local"
    assert limits["redis_host"]["deprecated"] is True
    assert schemas["services.input"]["properties"]["url"]["writeOnly"] is True
    assert schemas["services.input"]["properties"]["read_timeout"]["x-unit"] == "milliseconds"


def test_bodies_that_the_gateway_takes_hold_to_the_document(admin: Admin, document: Json) -> None:
    import jsonschema_rs

    service = {"url": "http://a.test:1/b", "tags": ["t"], "retries": 1}
    consumer = {"custom_id": "c"}
    plugin = {"name": "rate-limiting", "config": {"minute": 5, "redis_host": "r.test"}}
    for path, body in (("/services", service), ("/consumers", consumer), ("/plugins", plugin)):
        operation = document["paths"][path]["post"]
        wanted = {**operation["requestBody"]["content"]["application/json"]["schema"], "components": document["components"]}
        judge = jsonschema_rs.validator_for({**wanted, "$schema": "https://json-schema.org/draft/2020-12/schema"})
        judge.validate(body)
        assert not judge.is_valid({**body, "unheard_of": 1})
        assert not judge.is_valid({})
        made = admin.post(path, body)
        shown = {**operation["responses"]["201"]["content"]["application/json"]["schema"], "components": document["components"]}
        jsonschema_rs.validator_for({**shown, "$schema": "https://json-schema.org/draft/2020-12/schema"}).validate(made)


@pytest.mark.parametrize(
    ("method", "path", "required"),
    [
        ("post", "/snis", {"name", "certificate"}),
        ("put", "/snis/{snis}", {"certificate"}),
        ("post", "/certificates/{certificates}/snis", {"name"}),
        ("put", "/certificates/{certificates}/snis/{snis}", set()),
        ("post", "/consumers/{consumers}/acls", {"group"}),
        ("put", "/consumers/{consumers}/acls/{acls}", set()),
        ("put", "/acls/{acls}", {"consumer", "group"}),
    ],
)
def test_what_the_path_gives_need_not_be_in_the_body(document: Json, method: str, path: str, required: set[str]) -> None:
    schema = document["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
    wanted = {name for part in schema.get("allOf", ()) for name in part.get("required", ())}
    assert wanted == required


@pytest.mark.parametrize(
    ("regex", "written"),
    [
        (r"^[A-Z]+$", "^[A-Z]+$"),
        (r"\A\-a\Z", "^-a$"),
        (r"(?P<a>b)", "(?<a>b)"),
        (r"[^\s*\&%\\`]", r"[^\s*&%\\`]"),
        (r"[[]", r"[\[]"),
        (r"[]a]", r"[\]a]"),
        (r"a{2}{", r"a{2}\{"),
        (r"(?i)a", None),
        (r"(?:a)(?=b)(?<!c)", "(?:a)(?=b)(?<!c)"),
        (r"a++", None),
        (r"(?>a)", None),
        (r"[", None),
    ],
)
def test_patterns_are_written_as_ecma_262_has_them(regex: str, written: str | None) -> None:
    assert ecma_pattern(regex) == written


TEXTS = (
    "a",
    "a.b",
    "a.b:80",
    "1.2.3.4",
    "::1",
    "*.a.b",
    "a b",
    "/a/b",
    "/a%20",
    "x_y",
    "é",
    "a,b",
    "http://a.b/c",
    "",
    "-----BEGIN ",
)


@pytest.mark.parametrize("name", sorted(RULE_KEYWORDS))
def test_a_named_rule_takes_nothing_that_its_pattern_refuses(name: str) -> None:
    pattern = re.compile(RULE_KEYWORDS[name]["pattern"])
    for text in (*TEXTS, *map("".join, itertools.permutations("a.-:*/%", 2)), "a" * 300, "[::1]:80", "~a", "a~"):
        if RULES[name](text) is None and text:
            assert pattern.search(text), text


# === the page ===


def test_the_page_may_load_nothing_and_send_nowhere_else(admin: Admin) -> None:
    answer = admin.call("GET", "/docs")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert (policy["base-uri"], policy["form-action"]) == ("'none'", "'none'")
    assert re.fullmatch(r"'sha256-[\w+/]+='", policy["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]+='", policy["style-src"])
    page = answer.body.decode()
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"<(?:link|img|iframe|script)[^>]+(?:src|href)=(?!\"data:)", page)
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=", page)
    assert answer.headers["x-content-type-options"] == "nosniff"
