# SPDX-License-Identifier: Apache-2.0
"""Which OpenAPI 3.1 document describes the Admin API, and where is it served?

Endpoints of entities follow from the catalogue as those of `pylae.admin.crud` do; the others are declared in
`pylae.admin.endpoints_table`. `python -m pylae.admin.openapi --write` writes docs/reference/openapi.json, `--check`
fails when the file is out of date.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pylae import KONG_VERSION
from pylae.admin.answers import JSON, STATUS_OF_CODE
from pylae.admin.crud import Handlers
from pylae.admin.endpoints_table import DECLARED, NOT_FOUND, TAGS, Declared
from pylae.database.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from pylae.database.table import table_of
from pylae.errors import DATABASE_ERRORS
from pylae.schema import Entity, Schema, schema_of
from pylae.schema.openapi import Json, View, record_schema
from pylae.sdk.plugin import Plugin

REFERENCE: Final = Path("docs/reference/openapi.json")
PAGE: Final = "docs.html"

Kind = Literal["collection", "entity", "nested collection", "nested entity", "foreign entity"]

FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_METHODS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "collection": ("GET", "POST"),
    "entity": ("GET", "PUT", "PATCH", "DELETE"),
    "nested collection": ("GET", "POST"),
    "nested entity": ("GET", "PUT", "PATCH", "DELETE"),
    "foreign entity": ("GET", "PUT", "PATCH", "DELETE"),
}
_VERBS: Final = {"GET": "get", "POST": "create", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}
_SUMMARIES: Final = {
    "list": "Lists {many}",
    "create": "Makes {one}",
    "get": "Shows {one}",
    "put": "Makes or replaces {one}",
    "patch": "Changes {one}",
    "delete": "Deletes {one}",
}
_NEEDS_WASM: Final = "filter-chains"
"""Endpoints with this in their path say that there is no WebAssembly, whatever they are asked."""
_QUERY_CODES: Final = (7, 9, 11)
_WRITE_CODES: Final = (1, 2, 3, 4, 10, 13, 17, 19)
_DELETE_CODES: Final = (4, 19)
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ABOUT: Final = "\n\n".join(
    (
        "The same calls, bodies and answers as Kong Gateway's Admin API.",
        "Every path also answers `OPTIONS` (204 with `Allow`), and `HEAD` where it answers `GET`; any other method gets 405.",
        "A row is named by its id, or by the field that the parameter's description names.",
        "A form's names are paths into the body: `config.minute=5`, `paths[]=/a`, `headers[x-a]=1`; an empty value is null.",
        "An empty object may stand for an empty list, and the other way round.",
        "What goes wrong inside the gateway is told to its log; clients get a 500 without details.",
    )
)


@dataclass(frozen=True, slots=True)
class Generated:
    """An endpoint that follows from a declaration."""

    path: str
    kind: Kind
    entity: type[Entity]
    """Whose rows it shows."""
    field: str = ""
    """The foreign field that leads from the child to the parent."""
    other: type[Entity] | None = None
    """The parent of a nested endpoint, the child of a foreign one."""


def generated(entities: Mapping[str, type[Entity]]) -> Iterator[Generated]:
    """The endpoints that entities have, those that always answer 404 left out."""
    for entity in entities.values():
        if not entity.admin_generated:
            continue
        top, table = f"/{entity.path_name()}", entity.table
        if not entity.admin_disabled:
            yield Generated(top, "collection", entity)
            yield Generated(f"{top}/{{{table}}}", "entity", entity)
        for name, declared in entity.fields.items():
            parent = entities.get(declared.references or "")
            if parent is None or not parent.admin_generated:
                continue
            own = f"{top}/{{{table}}}/{name}"
            if not entity.admin_disabled and own not in NOT_FOUND:
                yield Generated(own, "foreign entity", parent, name, entity)
            nested = f"/{parent.path_name()}/{{{parent.table}}}/{entity.nested_name()}"
            yield Generated(nested, "nested collection", entity, name, parent)
            yield Generated(f"{nested}/{{{table}}}", "nested entity", entity, name, parent)


def document(
    entities: Mapping[str, type[Entity]],
    plugins: Mapping[str, type[Plugin]],
    served: Mapping[str, Collection[str]] | None = None,
) -> Json:
    """The whole document.

    Args:
        entities: by table, as the catalogue has them.
        plugins: those that are loaded, by name.
        served: the methods of each path of a running router; what it does not serve is left out.
    """
    endpoints = [one for one in generated(entities) if served is None or one.path in served]
    declared = [one for one in DECLARED if served is None or (one.path in served and one.method.upper() in served[one.path])]
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        operations = {method.lower(): _operation(endpoint, method) for method in _METHODS[endpoint.kind]}
        paths[endpoint.path] = {"parameters": _path_parameters(endpoint.path), **operations}
    for one in declared:
        item = paths.setdefault(one.path, {"parameters": _path_parameters(one.path)})
        item[one.method.lower()] = _declared_operation(one)
    for item in paths.values():
        if not item["parameters"]:
            del item["parameters"]
    _link(paths, endpoints)
    shown = {table: entities[table] for table in sorted({one.entity.table for one in endpoints} | _referenced(paths, entities))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Admin API",
            "version": KONG_VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "security": [{}, {"bearer": []}, {"token": []}],
        "tags": [
            *(
                {"name": table, "description": inspect.cleandoc(entity.__doc__ or "")}
                for table, entity in shown.items()
                if table not in TAGS
            ),
            *({"name": name, "description": text} for name, text in TAGS.items()),
        ],
        "paths": dict(sorted(paths.items(), key=lambda item: item[0].replace("/", "\0"))),
        "components": {
            "schemas": {**_entity_components(shown, plugins), **_error_components()},
            "responses": _response_components(),
            "parameters": {**_query_parameters(), **{f"path.{name}": _path_parameter(name, entities) for name in _names(paths)}},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "One of the setting `admin_auth_token`."},
                "token": {"type": "apiKey", "in": "header", "name": "Kong-Admin-Token", "description": "The same."},
            },
        },
    }


def _referenced(paths: Json, entities: Mapping[str, type[Entity]]) -> set[str]:
    """The entities whose rows are shown."""
    names = re.findall(r"#/components/schemas/(\w+)", msgspec.json.encode(paths).decode())
    return entities.keys() & set(names)


# === operations ===


def _operation(endpoint: Generated, method: str) -> Json:
    verb = "list" if method == "GET" and endpoint.kind.endswith("collection") else _VERBS[method]
    entity, other = endpoint.entity, endpoint.other
    many, one = f"every {_noun(entity)}", _article(_noun(entity))
    if endpoint.kind.startswith("nested") and other is not None:
        many, one = f"{many} of {_article(_noun(other))}", f"{one} of {_article(_noun(other))}"
    elif endpoint.kind == "foreign entity" and other is not None:
        one = f"the {_noun(entity)} of {_article(_noun(other))}"
    made: Json = {
        "operationId": ".".join([*_words(endpoint.path), verb]),
        "summary": _SUMMARIES[verb].format(many=many, one=one) + ".",
        "tags": [entity.table],
    }
    if verb == "list":
        made["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in ("size", "offset", "tags")]
        made["parameters"] += _extra_parameters(entity) if endpoint.kind == "collection" else []
    if verb in ("create", "put", "patch"):
        made["requestBody"] = _request_body(_body(endpoint, verb))
    made["responses"] = _answers(endpoint, verb)
    return made


def _answers(endpoint: Generated, verb: str) -> Json:
    row = {"$ref": f"#/components/schemas/{endpoint.entity.table}"}
    names: dict[str, str] = {"403": "Forbidden", "401": "Unauthorized", "500": "Fault"}
    answers: Json = {}
    if _NEEDS_WASM in endpoint.path.split("/"):
        return _references({**names, "400": "NoWasm"})
    match verb:
        case "list":
            answers["200"] = _json_answer("A page, in the order of the ids.", page_of(row))
            names["400"] = "BadQuery"
        case "create":
            answers["201"] = _json_answer("What was made, defaults filled in.", row)
        case "delete" if endpoint.kind != "foreign entity":
            answers["204"] = {"description": "It is gone, or never was."}
            names["400"] = "Referenced"
        case "get" | "put" | "patch":
            answers["200"] = _json_answer("The row.", row)
    if verb in ("create", "put", "patch"):
        names |= {"400": "BadBody", "404": "NotFound", "409": "Conflict", "413": "TooLarge", "415": "WrongType"}
    if verb != "list" or endpoint.kind != "collection":
        names["404"] = "NotFound"
    if verb not in ("get", "list"):
        names["405"] = "NotAllowed"
    return {**answers, **_references(names)}


def _references(names: Mapping[str, str]) -> Json:
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in sorted(names.items())}


def _body(endpoint: Generated, verb: str) -> Json:
    entity = endpoint.entity
    if verb == "patch" or (verb == "put" and entity.admin_disabled):
        # What is found below its parent only is changed there and never made by PUT.
        return {"$ref": f"#/components/schemas/{entity.table}.patch"}
    known = {endpoint.field} if endpoint.kind.startswith("nested") else set()
    if verb == "put" and endpoint.kind != "foreign entity":
        known |= _named_by(entity, endpoint.field or None)
    schema = schema_of(entity)
    base = record_schema(schema, "input", supplied=_outer(entity))
    full = record_schema(schema, "input", supplied=known)
    more = {name: full[name] for name in ("required", "anyOf", "allOf") if name in full and full[name] != base.get(name)}
    reference = {"$ref": f"#/components/schemas/{entity.table}.input"}
    return {"allOf": [reference, more]} if more else reference


def _outer(entity: type[Entity]) -> set[str]:
    """The fields that a path may give in place of the body."""
    parents = _references_of(entity)
    return parents.union(_named_by(entity, None), *(_named_by(entity, name) for name in parents))


def _references_of(entity: type[Entity]) -> set[str]:
    return {name for name, declared in entity.fields.items() if declared.references is not None}


def _named_by(entity: type[Entity], within: str | None) -> set[str]:
    """The field by which a path names a row, perhaps below the parent of a foreign field."""
    key = table_of(entity).key_within(within)
    return set() if key is None else {key}


def _extra_parameters(entity: type[Entity]) -> list[Json]:
    if entity.table != "consumers":
        return []
    text = "Only the Consumer with this `custom_id`."
    return [{"name": "custom_id", "in": "query", "description": text, "schema": {"type": "string", "minLength": 1}}]


def _declared_operation(one: Declared) -> Json:
    made: Json = {"operationId": one.operation_id, "summary": one.summary, "tags": [one.tag]}
    if one.deprecated:
        made["deprecated"] = True
    if one.query:
        made["parameters"] = [
            {"$ref": f"#/components/parameters/{query}"} if isinstance(query, str) else {"in": "query", **query}
            for query in one.query
        ]
    names = {"401": "Unauthorized", "403": "Forbidden", "500": "Fault"}
    if one.body is not None:
        made["requestBody"] = _request_body(one.body, one.body_types)
        names |= {"400": "BadBody", "413": "TooLarge", "415": "WrongType"}
    answers: Json = {}
    for status, (text, schema) in one.answers.items():
        if schema is None:
            answers[str(status)] = {"description": text}
        elif one.media_type is not None and status < 300:
            answers[str(status)] = {"description": text, "content": {one.media_type: {"schema": schema}}}
        else:
            answers[str(status)] = _json_answer(text, schema)
    for name in one.answers_named:
        answers[_STATUS_OF_RESPONSE[name]] = {"$ref": f"#/components/responses/{name}"}
    for code, name in names.items():
        answers.setdefault(code, {"$ref": f"#/components/responses/{name}"})
    made["responses"] = dict(sorted(answers.items()))
    return made


def _request_body(schema: Json, media_types: Collection[str] = ("application/json", *FORMS)) -> Json:
    return {"content": {media_type: {"schema": schema} for media_type in media_types}}


def _json_answer(text: str, schema: Json) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def page_of(row: Json) -> Json:
    """A page of rows."""
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": row},
            "next": {"type": ["string", "null"], "description": "Where the next page is; null on the last."},
            "offset": {"type": "string", "description": "Of the next page; absent on the last."},
        },
        "required": ["data", "next"],
        "additionalProperties": False,
    }


# === links ===


def _link(paths: Mapping[str, Json], endpoints: Collection[Generated]) -> None:
    """Says of what was made where it is found, changed and deleted, and what can be made below it."""
    # Nothing is there as long as the reference is null.
    perhaps_null = {
        one.path
        for one in endpoints
        if one.kind == "foreign entity" and one.other is not None and not one.other.fields[one.field].required
    }
    useless = perhaps_null | {path for path in paths if _NEEDS_WASM in path.split("/")}
    leading = {path: _PARAMETER.findall(path) for path in paths if path not in useless}
    for made in endpoints:
        if made.kind == "foreign entity":
            continue
        table = made.entity.table
        own = {table: f"$response.body#/{_row_key(made.entity)}"}
        # By its id: some parents can be named otherwise on some of their paths only.
        parent = {} if made.other is None else {made.other.table: f"$response.body#/{made.field}/id"}
        nested = made.path if made.kind == "nested entity" else f"{made.path}/{{{table}}}"
        links: Json = {}
        for path, parameters in leading.items():
            values = own
            if parent and parameters == [*parent, table] and path.startswith(nested):
                values = {**parent, **own}
            elif parameters != [table]:
                continue
            for method in _VERBS:
                if method.lower() in paths[path]:
                    operation_id = paths[path][method.lower()]["operationId"]
                    links[operation_id] = {"operationId": operation_id, "parameters": values}
        for method, status in (("post", "201"), ("put", "200")):
            operation = paths[made.path].get(method)
            if operation and links and status in operation["responses"]:
                operation["responses"][status]["links"] = links


def _row_key(entity: type[Entity]) -> str:
    return entity.primary_key[0]


# === components ===


def _entity_components(entities: Mapping[str, type[Entity]], plugins: Mapping[str, type[Plugin]]) -> dict[str, Json]:
    about = {f"plugins.{name}": _about_plugin(plugin) for name, plugin in plugins.items()}
    found: dict[str, Json] = {}
    for table, entity in entities.items():
        schema = schema_of(entity)
        for view, suffix in _SUFFIXES.items():
            keys = entity.variant_keys()
            if not keys:
                found[f"{table}{suffix}"] = _entity_schema(entity, schema, view)
                continue
            names = {key: f"{table}.{key}{suffix}" for key in keys}
            for key, name in names.items():
                variant = schema.variant(key)
                assert variant is not None
                found[name] = _entity_schema(entity, variant, view)
                found[name]["properties"][entity.subschema_key] = {"const": key}
                found[name] |= {"title": key, **about.get(f"{table}.{key}", {})}
            choices = [{"$ref": f"#/components/schemas/{name}"} for name in names.values()]
            if view == "patch":
                # Without the field that tells rows apart, the stored row's decides.
                found[f"{table}{suffix}"] = {"anyOf": choices}
                continue
            mapping = {key: f"#/components/schemas/{name}" for key, name in names.items()}
            discriminator = {"propertyName": entity.subschema_key, "mapping": mapping}
            found[f"{table}{suffix}"] = {"oneOf": choices, "discriminator": discriminator}
    return found


def _about_plugin(plugin: type[Plugin]) -> Json:
    text = inspect.cleandoc(plugin.__doc__ or "")
    return {"description": text if plugin.done else f"{text}\n\nCan be configured, and does not yet work."}


_SUFFIXES: Final[Mapping[View, str]] = {"output": "", "input": ".input", "patch": ".patch"}


def _entity_schema(entity: type[Entity], schema: Schema, view: View) -> Json:
    made = record_schema(schema, view, supplied=_outer(entity) if view == "input" else ())
    return {"title": _noun(entity), "description": inspect.cleandoc(entity.__doc__ or ""), **made}


def _error_components() -> dict[str, Json]:
    found: dict[str, Json] = {
        "message": {
            "type": "object",
            "description": "An answer that is one sentence.",
            "properties": {"message": {"type": "string"}},
            "required": ["message"],
            "additionalProperties": False,
        }
    }
    for error in DATABASE_ERRORS:
        name: Json = {"type": "string", "pattern": "^invalid unique "} if error.code == 10 else {"const": error.name}
        found[f"error.{error.code}"] = {
            "type": "object",
            "title": error.name,
            "description": inspect.cleandoc(error.__doc__ or ""),
            "properties": {
                "code": {"const": error.code},
                "name": name,
                "message": {"type": "string", "description": "All that is wrong, in one line."},
                "fields": {"type": "object", "description": "What is wrong, by field; rules between fields under `@entity`."},
                "options": {"type": "object", "description": "What is wrong, by query argument."},
            },
            "required": ["code", "name", "message"],
        }
    return found


def _errors(status: int, codes: Collection[int]) -> Json:
    names = ["message", *(f"error.{code}" for code in codes if STATUS_OF_CODE[code] == status)]
    return {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}


def _response_components() -> dict[str, Json]:
    message = {"$ref": "#/components/schemas/message"}
    every = tuple(STATUS_OF_CODE)
    bad_body = _json_answer("The body, or a value in it, is refused.", _errors(400, _WRITE_CODES))
    bad_body["content"]["text/plain; charset=utf-8"] = {"schema": {"const": "Multiple Content-Type headers not allowed"}}
    page = {"text/html; charset=UTF-8": {"schema": {"type": "string"}}}
    challenge = {"WWW-Authenticate": {"description": "How a token is shown.", "schema": {"type": "string"}}}
    return {
        "BadQuery": _json_answer("An argument of the query is refused.", _errors(400, _QUERY_CODES)),
        "BadBody": bad_body,
        "NoWasm": _json_answer("This gateway runs no WebAssembly.", message),
        "Referenced": _json_answer("Another row needs this one.", _errors(400, _DELETE_CODES)),
        "Unauthorized": {"headers": challenge, **_json_answer("A token is needed and none, or a wrong one, was shown.", message)},
        "Forbidden": _json_answer("A web page that may not use this API is behind the request.", message),
        "NotFound": _json_answer("There is no such row.", _errors(404, every)),
        "NotAllowed": _json_answer("Not possible here, such as a write without a database.", _errors(405, every)),
        "Conflict": _json_answer("Another row has the value of a unique field.", _errors(409, every)),
        "TooLarge": _json_answer("The body is larger than the setting `nginx_admin_client_max_body_size`.", message),
        "WrongType": {"description": "The body is neither JSON nor a form.", "content": page},
        "Fault": _json_answer("The gateway failed; its log says how.", message),
    }


_STATUS_OF_RESPONSE: Final = {
    "BadQuery": "400",
    "BadBody": "400",
    "Referenced": "400",
    "NotFound": "404",
    "NotAllowed": "405",
    "Conflict": "409",
}


def _query_parameters() -> dict[str, Json]:
    size = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE}
    tags = "Only rows with all of the tags `a,b`, or any of the tags `a/b`; up to five."
    return {
        "size": {"name": "size", "in": "query", "description": "Rows of a page.", "schema": size},
        "offset": {
            "name": "offset",
            "in": "query",
            "description": "`offset` of the page before.",
            "schema": {"type": "string"},
        },
        "tags": {"name": "tags", "in": "query", "description": tags, "schema": {"type": "string", "minLength": 1}},
    }


def _names(paths: Mapping[str, Json]) -> list[str]:
    return sorted({name for path in paths for name in _PARAMETER.findall(path)})


def _path_parameters(path: str) -> list[Json]:
    return [{"$ref": f"#/components/parameters/path.{name}"} for name in _PARAMETER.findall(path)]


def _path_parameter(name: str, entities: Mapping[str, type[Entity]]) -> Json:
    entity = entities.get(name)
    text = f"The {name.replace('_', ' ')}."
    if entity is not None:
        keys = [*entity.primary_key, *([] if entity.endpoint_key in (None, *entity.primary_key) else [entity.endpoint_key])]
        text = f"{' or '.join(f'`{key}`' for key in keys)} of {_article(_noun(entity))}."
        below = set() if not entity.admin_generated else _outer(entity) - {*keys, *_references_of(entity)}
        if below:
            text += f" Below its parent also {' or '.join(f'`{key}`' for key in sorted(below))}."
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string", "minLength": 1}}


# === words ===


def _words(path: str) -> list[str]:
    return [word for word in path.strip("/").split("/") if not word.startswith("{")]


def _noun(entity: type[Entity]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entity.__name__).replace("Ca ", "CA ").replace("Sni", "SNI")


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' or noun == 'SNI' else 'a'} {noun}"


# === where it is served ===


def endpoints(
    entities: Mapping[str, type[Entity]],
    plugins: Mapping[str, type[Plugin]],
    served: Callable[[], Mapping[str, Handlers]],
) -> dict[str, Handlers]:
    """Handlers of the document and of the page that shows it.

    Args:
        entities: by table, as the catalogue has them.
        plugins: those that are loaded, by name.
        served: every endpoint of the whole API, asked for when the document is first wanted.
    """
    made: list[bytes] = []
    page, policy = api_page()

    async def get_document(request: Request) -> Response:
        del request
        if not made:
            made.append(await asyncio.to_thread(lambda: msgspec.json.encode(document(entities, plugins, served()))))
        return Response(made[0], 200, media_type=JSON)

    async def get_page(request: Request) -> Response:
        del request
        headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return Response(page, 200, headers, "text/html; charset=utf-8")

    return {"/openapi.json": {"GET": get_document}, "/docs": {"GET": get_page}}


def api_page() -> tuple[bytes, str]:
    """The page that shows the document, and the policy under which it may do nothing else."""
    page = files("pylae.admin").joinpath(PAGE).read_bytes()
    digests = {}
    for element in ("script", "style"):
        found = re.search(rb"<%b>(.*?)</%b>" % (element.encode(), element.encode()), page, re.DOTALL)
        assert found is not None
        digests[element] = base64.b64encode(hashlib.sha256(found[1]).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def reference() -> str:
    """The document of a gateway with the bundled plugins."""
    from pylae.entities import enable_plugins, registry
    from pylae.sdk.loader import load

    plugins = load(["bundled"])
    enable_plugins(plugins)
    return msgspec.json.format(msgspec.json.encode(document(registry(), plugins)), indent=1).decode() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the document; 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m pylae.admin.openapi", description="The document of the Admin API.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the document")
    action.add_argument("--check", action="store_true", help="fail when the document is out of date")
    parser.add_argument("--file", type=Path, default=REFERENCE, help="where the document is")
    chosen = parser.parse_args(arguments)
    text = reference()
    if chosen.write:
        chosen.file.write_text(text, encoding="utf-8")
        return 0
    if chosen.file.is_file() and chosen.file.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{chosen.file} is out of date; hint: python -m pylae.admin.openapi --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
