# SPDX-License-Identifier: Apache-2.0
"""What becomes of a setting that names a secret in a vault, and who sees the secret?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pylae import settings as module
from pylae.errors import SettingsError
from pylae.pem import as_path
from pylae.settings import Settings
from tests.support.certificates import self_signed


@pytest.fixture(autouse=True)
def no_system_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_FILES", ())


def _load(**environ: str) -> Settings:
    return Settings.load(environ=environ)


def test_the_secret_is_used_and_the_reference_is_shown_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = {
        "KONG_PG_PASSWORD": "{vault://env/pg/password}",
        "KONG_PG_DATABASE": "{vault://env/pg/name#1}",
        "KONG_NGINX_HTTP_GZIP": "{vault://env/gzip}",
        "KONG_SSL_PROTOCOLS": "{vault://env/protocols}",
    }
    secrets = {"PG": '{"password": "hunter22", "name": "kong-db"}', "GZIP": "on;", "PROTOCOLS": "TLSv1.3"}
    settings = _load(**references, **secrets)
    assert (settings.pg_password, settings.pg_database) == ("hunter22", "kong-db")
    assert settings.directives["nginx_http_gzip"] == "on;"
    assert (settings.ssl_protocols, settings.nginx_http_ssl_protocols) == ("TLSv1.3", "TLSv1.3")
    shown = settings.as_dict()
    assert shown["pg_password"] == "******"
    assert (shown["pg_database"], shown["nginx_http_gzip"]) == ("{vault://env/pg/name#1}", "{vault://env/gzip}")
    assert shown["ssl_protocols"] == shown["nginx_http_ssl_protocols"] == "{vault://env/protocols}"
    settings.write_env(tmp_path / ".kong_env")
    written = (tmp_path / ".kong_env").read_text()
    assert "hunter22" not in written
    assert "kong-db" not in written
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)
    again = Settings.from_prefix(tmp_path)
    assert (again.pg_password, again.pg_database, again.ssl_protocols) == ("hunter22", "kong-db", "TLSv1.3")
    assert again.references == settings.references


def test_items_of_a_list_are_references_of_their_own() -> None:
    settings = _load(
        KONG_ADMIN_AUTH_TOKEN="{vault://env/first}, plain-token, {vault://env/second}",
        KONG_TRUSTED_IPS="{vault://env/ips}, 10.0.0.3",
        FIRST="a,token,with,commas",
        SECOND="  second-token\n",
        IPS="10.0.0.1, 10.0.0.2",
    )
    assert settings.admin_auth_token == ["a,token,with,commas", "plain-token", "second-token"]
    assert settings.trusted_ips == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert settings.as_dict()["trusted_ips"] == ["{vault://env/ips}", "10.0.0.3"]
    assert settings.as_dict()["admin_auth_token"] == "******"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"KONG_PG_PASSWORD": "{vault://env/pg}"}, "pg_password can't be resolved: {vault://env/pg}: the environment has no"),
        (
            {"KONG_PG_PASSWORD": "{vault://env/pg}", "PG": " "},
            "pg_password can't be resolved: {vault://env/pg}: the secret is em",
        ),
        ({"KONG_PG_PASSWORD": "{vault://env/pg", "PG": "x"}, "pg_password: `{vault://env/pg` begins like a reference"),
        ({"KONG_PG_PORT": "{vault://env/pg}", "PG": "sesame-open"}, "pg_port is not a number: '******'"),
        ({"KONG_TRUSTED_IPS": "{vault://env/pg}", "PG": "sesame-open"}, "got '******'"),
        ({"KONG_VAULTS": "off", "KONG_PG_PASSWORD": "{vault://env/pg}", "PG": "sesame"}, "the vault `env` is switched off"),
        ({"KONG_VAULTS": "hcv"}, "vaults: the vault `hcv` is not installed"),
        ({"KONG_ADMIN_AUTH_TOKEN": "{vault://env/token}", "TOKEN": ""}, "admin_auth_token can't be resolved"),
        ({"KONG_ADMIN_AUTH_TOKEN": " , "}, "admin_auth_token holds no token"),
        ({"KONG_ADMIN_AUTH_TOKEN": "off"}, "admin_auth_token: a token has fewer than 8 characters"),
        ({"KONG_ADMIN_CLIENT_CA": "/nowhere.pem"}, "admin_client_ca: failed loading certificate from /nowhere.pem"),
        (
            {"KONG_SSL_CERT": "x.crt", "KONG_SSL_CERT_KEY": "{vault://env/pg}", "PG": "sesame-open"},
            "ssl_cert_key: failed loading",
        ),
        ({"KONG_SSL_CERT": "x.crt", "KONG_SSL_CERT_KEY": "MIIsesame-open"}, "ssl_cert_key: failed loading key from its value"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(**environ)
    assert message in str(caught.value)
    assert "sesame-open" not in str(caught.value)


def test_the_vaults_prefix_holds_for_settings_too() -> None:
    settings = _load(KONG_VAULT_ENV_PREFIX="app-", KONG_PG_PASSWORD="{vault://env/pg}", APP_PG="hunter22", PG="other")
    assert settings.pg_password == "hunter22"


def test_without_resolving_the_prefix_is_found_though_secrets_are_not(tmp_path: Path) -> None:
    environ = {"KONG_PREFIX": str(tmp_path), "KONG_SSL_CERT": "x.crt", "KONG_SSL_CERT_KEY": "{vault://env/none}"}
    settings = Settings.load(environ=environ, resolves=False)
    assert settings.prefix == str(tmp_path)
    settings.write_env(tmp_path / ".kong_env")
    assert "ssl_cert_key = {vault://env/none}" in (tmp_path / ".kong_env").read_text()


def test_remote_listening_is_allowed_to_who_asks_for_authentication(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "ca.test")
    with pytest.raises(SettingsError, match="can be reached from beyond this machine"):
        _load(KONG_ADMIN_LISTEN="0.0.0.0:8001", KONG_ADMIN_CLIENT_CA=str(made.certificate))
    guarded = _load(KONG_ADMIN_LISTEN="0.0.0.0:8444 ssl", KONG_ADMIN_CLIENT_CA=str(made.certificate))
    assert guarded.warnings() == []
    plain = _load(KONG_ADMIN_LISTEN="0.0.0.0:8001", KONG_ADMIN_AUTH_TOKEN="a-good-token")
    assert any("tokens of the Admin API cross the network unencrypted" in warning for warning in plain.warnings())
    mixed = _load(KONG_ADMIN_LISTEN="127.0.0.1:8001, 127.0.0.1:8444 ssl", KONG_ADMIN_CLIENT_CA=str(made.certificate))
    assert mixed.warnings() == ["admin_listen 127.0.0.1:8001 speaks no TLS: whoever reaches it needs no client certificate"]


def test_a_key_from_a_vault_is_a_file_that_lies_on_no_disk(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "key.test")
    pem = made.key.read_text()
    path = as_path(pem.strip())
    assert path.startswith("/proc/self/fd/")
    assert Path(path).read_text() == Path(path).read_text() == pem
    assert as_path(str(made.key)) == str(made.key)
