# SPDX-License-Identifier: Apache-2.0
"""Is every setting and field documented, typed, and told in units?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pylae import entities
from pylae.schema import Field, Record
from pylae.schema.reference import pages
from pylae.sdk import loader
from pylae.settings import IN_EFFECT
from pylae.settings_table import DYNAMIC_PREFIXES, SETTINGS, Setting

PLUGINS = loader.load(["bundled"])
REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
DIMENSIONLESS = {
    *(
        "database",
        "error_code",
        "http_statuses",
        "http_version",
        "https_redirect_status_code",
        "regex_priority",
        "retry_count",
        "sample_rate",
        "sampling_rate",
        "status",
        "status_code",
        "temperature",
        "top_p",
        "unhandled_status",
    ),
    *("http_proxy_port", "https_proxy_port", "ldap_port", "port", "session_memcached_port"),
}
"""Numbers that count nothing: names, codes and ranks."""


def _declarations() -> Iterator[tuple[str, type[Record]]]:
    for entity in entities.CORE:
        yield from _with_inner(entity.table, entity)
    for name, plugin in PLUGINS.items():
        yield from _with_inner(name, plugin.Config)
        for entity in plugin.entities:
            yield from _with_inner(entity.table, entity)


def _with_inner(name: str, declaration: type[Record]) -> Iterator[tuple[str, type[Record]]]:
    yield name, declaration
    for declared in declaration.fields.values():
        for part in (declared, declared.elements, declared.values):
            if part is not None and part.record is not None:
                yield from _with_inner(f"{name}.{declared.name}", part.record)


FIELDS = [(f"{place}.{name}", declared) for place, record in _declarations() for name, declared in record.fields.items()]


def _is_sentence(text: str) -> bool:
    return text[:1] == text[:1].upper() and text.endswith(".") and "  " not in text and len(text.split()) > 1


@pytest.mark.parametrize(("path", "declared"), FIELDS, ids=[path for path, _ in FIELDS])
def test_a_field_says_its_effect_in_a_sentence(path: str, declared: Field) -> None:
    assert _is_sentence(declared.doc), f"{path}: {declared.doc!r}"


@pytest.mark.parametrize(
    ("path", "declared"),
    [(path, declared) for path, declared in FIELDS if declared.type in ("integer", "number")],
    ids=[path for path, declared in FIELDS if declared.type in ("integer", "number")],
)
def test_a_number_says_what_it_counts(path: str, declared: Field) -> None:
    says_so = path.endswith(("_ms", "_s", "_bytes", "_count", "_ratio", "_percent", "_size"))
    assert declared.unit or declared.name in DIMENSIONLESS or says_so or declared.doc.startswith("Requests "), path


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))
def test_a_setting_is_documented_and_has_a_type(setting: Setting) -> None:
    assert _is_sentence(setting.doc)
    assert (setting.type == "enum") == bool(setting.enum)
    assert setting.default is None or setting.type != "enum" or setting.default in setting.enum
    assert setting.unit is not None or setting.type != "number"
    assert setting.alias_of is None or setting.alias_of in SETTINGS


def test_what_has_an_effect_is_in_the_table() -> None:
    strays = {name for name in IN_EFFECT - set(SETTINGS) if not name.startswith(DYNAMIC_PREFIXES)}
    assert strays == set()


def test_plugins_have_priorities_of_their_own() -> None:
    # Kong has ldap-auth and ldap-auth-advanced at one priority; names decide between them.
    priorities = [plugin.priority for name, plugin in PLUGINS.items() if name != "ldap-auth-advanced"]
    assert len(set(priorities)) == len(priorities)


@pytest.mark.parametrize("name", ["settings.md", "entities.md", "plugins.md"])
def test_a_generated_page_equals_its_regeneration(name: str) -> None:
    assert (REFERENCE / name).read_text() == pages()[name], "hint: python -m pylae.schema.reference --write"
