# SPDX-License-Identifier: Apache-2.0
"""Are the plugins loaded that the settings ask for, and is it said why one is not?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pylae.sdk.loader import PluginNotLoaded, load
from pylae.sdk.plugin import PHASES
from tests.plugins import fixtures

PLUGIN = """
from pylae.sdk import Plugin

class Mine(Plugin):
    name = "{name}"
    priority = 7
    def access(self, exchange, config):
        return None
"""
BUNDLED = sorted(point.name for point in entry_points(group="pylae.plugins") if point.value.startswith("pylae.plugins."))
OURS = {"auth-damping", "resilience"}
"""Bundled plugins that Kong does not have."""
SOLD = {"ldap-auth-advanced", "mtls-auth", "oauth2-introspection", "openid-connect"}
"""Those that it sells."""
UNDONE = {
    *("acme", "aws-lambda", "azure-functions", "correlation-id", "datadog", "file-log", "grpc-gateway", "grpc-web", "loggly"),
    *("ai-prompt-decorator", "ai-prompt-guard", "ai-prompt-template", "ai-proxy"),
    *("ai-request-transformer", "ai-response-transformer", "opentelemetry", "post-function", "pre-function", "prometheus"),
    *("proxy-cache", "redirect", "request-size-limiting", "response-ratelimiting", "standard-webhooks", "statsd", "syslog"),
    *("tcp-log", "udp-log", "zipkin"),
}
"""Those that can be configured, and whose work is still to come."""


@pytest.fixture(autouse=True)
def _forgotten_modules() -> Iterator[None]:
    present = set(sys.modules)
    yield
    for name in set(sys.modules) - present:
        del sys.modules[name]


def test_bundled_plugins_come_with_the_gateway() -> None:
    plugins = load(["bundled"])
    assert list(plugins) == BUNDLED
    assert len(set(BUNDLED) - OURS - SOLD) == 45
    assert {name for name, plugin in plugins.items() if not plugin.done} == UNDONE


def test_a_native_plugin_has_no_phase_and_nothing_else_may_lack_one() -> None:
    plugins = load(["bundled"])
    assert {name for name, plugin in plugins.items() if plugin.is_native} == {"resilience"}
    phases = {phase for phase in PHASES if hasattr(plugins["resilience"], phase)}
    assert phases == set()


def test_off_means_none_and_one_name_means_one() -> None:
    assert load(["off"]) == {}
    assert list(load(["key-auth"])) == ["key-auth"]


def test_user_file_is_loaded_beside_the_bundled_ones(tmp_path: Path) -> None:
    (tmp_path / "my_own_plugin.py").write_text(PLUGIN.format(name="my-own-plugin"))
    plugins = load(["bundled", "my-own-plugin"], [tmp_path / "absent", tmp_path])
    assert list(plugins) == [*BUNDLED, "my-own-plugin"]
    assert plugins["my-own-plugin"].priority == 7


def test_user_folder_is_a_package_whose_modules_find_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "my_folder_plugin"
    folder.mkdir()
    (folder / "words.py").write_text('NAME = "my-folder-plugin"\n')
    source = PLUGIN.replace('"{name}"', "NAME").replace("import Plugin", "import Plugin\nfrom .words import NAME")
    (folder / "plugin.py").write_text(source)
    assert load(["my-folder-plugin"], [tmp_path])["my-folder-plugin"].name == "my-folder-plugin"


def test_loading_twice_gives_the_same_class(tmp_path: Path) -> None:
    (tmp_path / "my_twin.py").write_text(PLUGIN.format(name="my-twin"))
    assert load(["my-twin"], [tmp_path])["my-twin"] is load(["my-twin"], [tmp_path])["my-twin"]


def test_fixture_with_an_entity_is_loaded() -> None:
    plugin = load(["ttl-ledger"], [Path(fixtures.__file__).parent])["ttl-ledger"]
    assert [entity.table for entity in plugin.entities] == ["ttl_ledger_entries"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "bad-plugin plugin is enabled but not installed"),
        ("import nonsense_that_is_not_there", "does not import: ModuleNotFoundError"),
        ("def broken(", "does not import: SyntaxError"),
        ("x = 1", "holds no plugin of that name"),
        (PLUGIN.format(name="another"), "holds no plugin of that name"),
        (PLUGIN.format(name="bad-plugin").replace("def access", "def acess"), "has no phase"),
        (PLUGIN.format(name="bad-plugin").replace("7", '"7"'), "expected a whole number"),
        (
            PLUGIN.format(name="bad-plugin") + "    def response(self, e, c): ...\n    def header_filter(self, e, c): ...\n",
            "may not have a response phase and a header_filter",
        ),
        (PLUGIN.format(name="bad-plugin") + "    Config = dict\n", "not a subclass of `Record`"),
    ],
)
def test_reason_is_said_when_a_plugin_cannot_be_had(tmp_path: Path, source: str | None, reason: str) -> None:
    if source is not None:
        (tmp_path / "bad_plugin.py").write_text(source)
    with pytest.raises(PluginNotLoaded, match=reason):
        load(["bad-plugin"], [tmp_path])


def test_file_that_would_hide_another_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(PLUGIN.format(name="json"))
    with pytest.raises(PluginNotLoaded, match="another module is named `json`"):
        load(["json"], [tmp_path])
