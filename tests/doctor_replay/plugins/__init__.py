# SPDX-License-Identifier: Apache-2.0
"""Plugins that fail in every way; a replay loads them with `plugin_path = tests/doctor_replay/plugins`."""
