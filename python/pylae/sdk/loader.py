# SPDX-License-Identifier: Apache-2.0
"""Which plugins does this gateway have?

The setting `plugins` names them: `bundled` for those that come with the gateway, and any number of others. A
name is looked for among installed packages (entry points of the group `pylae.plugins`) and in the directories of
`plugin_path`, as `my_plugin.py` or `my_plugin/plugin.py` for `my-plugin`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pylae.errors import SettingsError
from pylae.schema import Record
from pylae.sdk.plugin import PHASES, Plugin

GROUP: Final = "pylae.plugins"
BUNDLED_PREFIX: Final = "pylae.plugins."
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*\Z")


class PluginNotLoaded(SettingsError):
    """A plugin that the settings ask for cannot be had; the gateway does not start."""


def load_plugins(settings: Any) -> dict[str, type[Plugin]]:
    """The plugins that `settings.plugins` and `settings.plugin_path` ask for, by name.

    Raises:
        PluginNotLoaded: one is not installed, does not import, or is not a proper plugin.
    """
    return load(settings.plugins, settings.plugin_path)


def load(names: Iterable[str], directories: Sequence[str | Path] = ()) -> dict[str, type[Plugin]]:
    """The plugins of these names; `bundled` stands for all that come with the gateway, `off` for none.

    Raises:
        PluginNotLoaded: one is not installed, does not import, or is not a proper plugin.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    wanted: dict[str, None] = {}
    for name in names:
        if name == "bundled":
            bundled = (point.name for point in installed.values() if point.value.startswith(BUNDLED_PREFIX))
            wanted.update(dict.fromkeys(sorted(bundled)))
        elif name != "off":
            wanted[name] = None
    return {name: _load_one(name, installed, directories) for name in wanted}


def _load_one(name: str, installed: dict[str, EntryPoint], directories: Sequence[str | Path]) -> type[Plugin]:
    point = installed.get(name)
    if point is not None:
        try:
            loaded = point.load()
        except (ImportError, AttributeError) as error:
            raise PluginNotLoaded(f"{name} plugin does not load from `{point.value}`: {error}") from error
        return check_plugin(name, loaded)
    module_name = name.replace("-", "_")
    for directory in directories:
        for path in (Path(directory) / f"{module_name}.py", Path(directory) / module_name / "plugin.py"):
            if path.is_file():
                return check_plugin(name, _plugin_in(_import(module_name, path), name, path))
    looked_in = ", ".join(str(directory) for directory in directories) or "no directories"
    raise PluginNotLoaded(
        f"{name} plugin is enabled but not installed; hint: `plugin_path` ({looked_in}) must hold "
        f"`{module_name}.py` or `{module_name}/plugin.py`"
    )


def _import(module_name: str, path: Path) -> ModuleType:
    """Imports a file under its own name, a folder's `plugin.py` as a module of the folder's package."""
    if path.name == "plugin.py" and path.parent.name == module_name:
        _import_file(module_name, path.parent / "__init__.py", path.parent)
        return _import_file(f"{module_name}.plugin", path, None)
    return _import_file(module_name, path, None)


def _import_file(module_name: str, path: Path, package_directory: Path | None) -> ModuleType:
    present = sys.modules.get(module_name)
    if present is not None:
        where = getattr(present, "__file__", None)
        if where is not None and Path(where) == path:
            return present
        raise PluginNotLoaded(f"`{path}` cannot be imported: another module is named `{module_name}`; hint: rename it")
    if package_directory is not None and not path.is_file():
        module = ModuleType(module_name)
        module.__file__ = str(path)
        module.__path__ = [str(package_directory)]
        sys.modules[module_name] = module
        return module
    locations = None if package_directory is None else [str(package_directory)]
    spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise PluginNotLoaded(f"`{path}` cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, Exception):
            raise PluginNotLoaded(f"`{path}` does not import: {type(error).__name__}: {error}") from error
        raise
    return module


def _plugin_in(module: ModuleType, name: str, path: Path) -> Any:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Plugin) and getattr(value, "name", None) == name:
            return value
    raise PluginNotLoaded(f'`{path}` holds no plugin of that name; hint: a subclass of `Plugin` with `name = "{name}"`')


def check_plugin(name: str, loaded: Any) -> type[Plugin]:
    """The plugin class, once it is known to be one.

    Raises:
        PluginNotLoaded: it is not.
    """
    if not isinstance(loaded, type) or not issubclass(loaded, Plugin):
        raise PluginNotLoaded(f"{name} plugin: `{loaded!r}` is not a subclass of `Plugin`")
    if getattr(loaded, "name", None) != name:
        raise PluginNotLoaded(f"{name} plugin: its class is named `{getattr(loaded, 'name', None)}`")
    if _NAME.match(name) is None:
        raise PluginNotLoaded(f"{name} plugin: expected a name of lower-case letters, digits and hyphens")
    if not isinstance(loaded.priority, int):
        raise PluginNotLoaded(f"{name} plugin: `priority` is `{loaded.priority!r}`, expected a whole number")
    if not isinstance(loaded.Config, type) or not issubclass(loaded.Config, Record):
        raise PluginNotLoaded(f"{name} plugin: `Config` is not a subclass of `Record`")
    phases = [phase for phase in PHASES if callable(getattr(loaded, phase, None))]
    if not phases and not loaded.is_native:
        raise PluginNotLoaded(f"{name} plugin has no phase; hint: define one of {', '.join(PHASES)}")
    if "response" in phases and ("header_filter" in phases or "body_filter" in phases):
        raise PluginNotLoaded(f"{name} plugin may not have a response phase and a header_filter or body_filter")
    return loaded
