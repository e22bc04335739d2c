# SPDX-License-Identifier: Apache-2.0
"""How is it told what is wrong with a declarative configuration?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pylae.errors import InvalidDeclarativeConfig
from pylae.hiding import MASK
from pylae.lua_text import lua_line
from pylae.schema import Field
from pylae.schema.validate import is_uuid

HIDDEN: Final = MASK
PREFIX: Final = "declarative config is invalid: "

Path = tuple[str | int, ...]
Children = Callable[[str], Mapping[str, str]]
"""Takes a table; gives, by the names of lists that may stand in its entities, the tables of what is in them."""


def place(fields: dict[str, Any], path: Sequence[str | int], error: Any) -> None:
    """Puts an error where the document has what it is about: names lead into objects, positions from 0 into lists."""
    holder: Any = fields
    for step, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(holder, list):
            assert isinstance(step, int)
            holder.extend([None] * (step + 1 - len(holder)))
            inner = holder[step]
        else:
            inner = holder.get(step)
        if following is None:
            both_are_objects = isinstance(inner, dict) and isinstance(error, dict)
            holder[step] = {**inner, **error} if both_are_objects else error
            return
        wanted = list if isinstance(following, int) else dict
        if not isinstance(inner, wanted):
            # A text about the whole gives way to what is inside it.
            inner = holder[step] = wanted() if inner is None or wanted is list else {"@entity": [inner]}
        holder = inner


def invalid(fields: Mapping[str, Any], flattened: Sequence[Mapping[str, Any]] | None = None) -> InvalidDeclarativeConfig:
    """The error whose body the Admin API sends."""
    return InvalidDeclarativeConfig(PREFIX + lua_line(fields), fields, flattened)


def without_secrets(errors: Mapping[str, Any], values: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Errors of an entity or a part of one, without the values of secret fields."""
    hidden: dict[str, Any] = {}
    for name, error in errors.items():
        declared, value = fields.get(name), values.get(name)
        if declared is not None and declared.secret and isinstance(value, str) and value:
            error = _without(error, value)
        elif declared is not None and declared.record is not None and isinstance(error, Mapping) and isinstance(value, Mapping):
            error = without_secrets(error, value, declared.record.fields)
        hidden[name] = error
    return hidden


def _without(error: Any, value: str) -> Any:
    if isinstance(error, str):
        return error.replace(value, HIDDEN)
    return [_without(one, value) for one in error] if isinstance(error, list) else error


def leaves(fields: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in a tree of errors with its place, in the order of the document."""
    if isinstance(fields, Mapping):
        for name, inner in fields.items():
            if name == "@entity":
                yield from ((path, str(text)) for text in (inner if isinstance(inner, (list, tuple)) else [inner]))
            else:
                yield from leaves(inner, (*path, name))
    elif isinstance(fields, (list, tuple)):
        for position, inner in enumerate(fields):
            if inner is not None:
                yield from leaves(inner, (*path, position))
    else:
        yield path, str(fields)


def flatten_errors(
    fields: Mapping[str, Any], document: Mapping[str, Any], tables: Mapping[str, Any], children_of: Children
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The errors of entities one by one, and those that are of none.

    Args:
        fields: the tree of errors.
        document: what they are about.
        tables: whose entities a document may hold.
        children_of: what may stand in an entity.
    """
    rest: dict[str, Any] = {}
    flattened: list[dict[str, Any]] = []
    for name, errors in fields.items():
        entities = document.get(name)
        if name in tables and isinstance(errors, list) and isinstance(entities, list):
            _flatten_list(name, errors, entities, children_of, flattened)
        else:
            rest[name] = errors
    return rest, flattened


def _flatten_list(
    table: str, errors: list[Any], entities: list[Any], children_of: Children, flattened: list[dict[str, Any]]
) -> None:
    for error, entity in zip(errors, entities, strict=False):
        if error is not None:
            _flatten_entity(table, error, entity, children_of, flattened)


def _flatten_entity(table: str, error: Any, entity: Any, children_of: Children, flattened: list[dict[str, Any]]) -> None:
    if not isinstance(error, Mapping):
        error = {"@entity": [error]}
    own = dict(error)
    children = children_of(table)
    shown = entity
    if isinstance(entity, Mapping):
        for name, child in children.items():
            inner_errors, inner = own.get(name), entity.get(name)
            if isinstance(inner_errors, list) and isinstance(inner, list):
                del own[name]
                _flatten_list(child, inner_errors, inner, children_of, flattened)
        shown = {name: value for name, value in entity.items() if name not in children or name in own}
    texts = list(_flat(own))
    if not texts:
        return
    item: dict[str, Any] = {"errors": texts, "entity": shown, "entity_type": singular(table)}
    if isinstance(entity, Mapping):
        if isinstance(entity.get("name"), str):
            item["entity_name"] = entity["name"]
        if is_uuid(entity.get("id")):
            item["entity_id"] = entity["id"]
        tags = entity.get("tags")
        if isinstance(tags, list):
            texts_of_tags = [tag for tag in tags if isinstance(tag, str)]
            if texts_of_tags:
                item["entity_tags"] = texts_of_tags
    flattened.append(item)


def _flat(errors: Any, prefix: str = "") -> Iterator[dict[str, str]]:
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            if name == "@entity":
                for text in inner if isinstance(inner, (list, tuple)) else [inner]:
                    yield {"message": str(text), "type": "entity"}
            else:
                yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(errors, (list, tuple)):
        for position, inner in enumerate(errors, 1):
            if inner is not None:
                yield from _flat(inner, f"{prefix}.{position}" if prefix else str(position))
    else:
        yield {"field": prefix, "message": str(errors), "type": "field"}


def singular(table: str) -> str:
    """What one entity of a table is called.

    >>> [singular(table) for table in ("services", "acme_storage", "ca_certificates")]
    ['service', 'acme_storage', 'ca_certificate']
    """
    return table.removesuffix("s")


def shown(fields: Any, item: str = "", indent: str = "", lines: Mapping[Path, int] | None = None, path: Path = ()) -> str:
    """The errors for a terminal, as Kong's commands print them; with the line of each that is known."""
    out: list[str] = []
    pairs = fields.items() if isinstance(fields, Mapping) else enumerate(fields)
    for key, inner in pairs:
        if inner is None:
            continue
        where = f"- in entry {key + 1} of '{item}'" if isinstance(key, int) else f"in '{key}'"
        inner_path = (*path, key)
        if key == "@entity" and isinstance(inner, (list, tuple)):
            line = None if lines is None else lines.get(path)
            out += [f"{indent}{text}" + ("" if line is None else f" (line {line})") for text in inner]
        elif isinstance(inner, (Mapping, list, tuple)):
            out.append(f"{indent}{where}:")
            out.append(shown(inner, str(key), indent + "  ", lines, inner_path))
        else:
            line = None if lines is None else lines.get(inner_path)
            out.append(f"{indent}{where}: {inner}" + ("" if line is None else f" (line {line})"))
    return "\n".join(out)


def in_words(path: Path) -> str:
    """A place in one word.

    >>> in_words(("services", 0, "routes", 2, "paths"))
    'services[1].routes[3].paths'
    """
    words = ""
    for step in path:
        words += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if words else step
    return words
