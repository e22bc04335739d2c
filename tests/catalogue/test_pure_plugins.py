# SPDX-License-Identifier: Apache-2.0
"""Can the bundled plugins that are run again do nothing to anybody?"""

from __future__ import annotations

import ast
import inspect

import pytest

from pylae.sdk import loader
from pylae.sdk.plugin import Plugin

PLUGINS = loader.load(["bundled"])
PURE = {name: plugin for name, plugin in PLUGINS.items() if plugin.is_pure}
MODULES_OF_THE_WORLD = frozenset(
    {
        "asyncio",
        "datetime",
        "http",
        "io",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "ssl",
        "subprocess",
        "threading",
        "time",
        "urllib",
    }
)
"""What reaches past the exchange. The SDK's own `bodies`, which reads and writes bodies, does not."""


def test_which_plugins_are_run_again_and_which_say_who_the_client_is() -> None:
    assert set(PURE) == {"bot-detection", "cors", "ip-restriction", "request-transformer", "response-transformer"}
    authenticating = {name for name, plugin in PLUGINS.items() if plugin.authenticates}
    assert authenticating == {
        "basic-auth",
        "hmac-auth",
        "jwt",
        "key-auth",
        "ldap-auth",
        "ldap-auth-advanced",
        "mtls-auth",
        "oauth2",
        "oauth2-introspection",
        "openid-connect",
        "session",
    }


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_plugin_has_nothing_to_keep_to_ship_or_to_start(name: str) -> None:
    plugin = PURE[name]
    assert not plugin.authenticates
    assert not plugin.entities
    assert plugin.Shipper is None
    for method in ("__init__", "start", "stop"):
        assert getattr(plugin, method) is getattr(Plugin, method), f"{name} overrides {method}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_plugin_asks_its_host_for_nothing_and_imports_nothing_of_the_world(name: str) -> None:
    module = inspect.getmodule(PURE[name])
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    asked = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_host(node.value)]
    assert asked == []
    imported = {part for node in ast.walk(tree) for part in _imported(node)}
    assert not imported & MODULES_OF_THE_WORLD


def _is_host(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute) and node.attr == "host" and isinstance(node.value, ast.Name) and node.value.id == "self"
    )


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()
