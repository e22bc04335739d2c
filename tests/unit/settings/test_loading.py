# SPDX-License-Identifier: Apache-2.0
"""Which source wins, what is refused, and what survives the way through the environment file?"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pylae import settings as module
from pylae.errors import SettingsError
from pylae.settings import Listener, Settings
from pylae.settings_table import SETTINGS

FACTS = json.loads((Path(__file__).parents[2] / "facts" / "kong" / "kong-conf.json").read_text())
DIFFERENT_ON_PURPOSE = {"prefix", "database", "nginx_user", "nginx_main_user"}


@pytest.fixture(autouse=True)
def no_system_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_FILES", ())


def _load(**environment: str) -> Settings:
    return Settings.load(environ={name.upper(): value for name, value in environment.items()})


def _file(folder: Path, text: str) -> Path:
    path = folder / "kong.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("fact", FACTS["properties"], ids=lambda fact: fact["name"])
def test_every_property_of_kong_has_its_default_type_and_values(fact: dict[str, object]) -> None:
    name = str(fact["name"])
    setting = SETTINGS[name]
    assert fact["env"] in setting.environment_names
    assert (setting.type if setting.type not in ("size", "duration") else "string") == fact["type"]
    assert setting.secret == bool(fact.get("sensitive"))
    if name not in DIFFERENT_ON_PURPOSE:
        assert setting.default == fact["default"]
        assert list(setting.enum) == (fact.get("enum") or [])


def test_only_our_own_properties_are_added() -> None:
    ours = {setting.name for setting in SETTINGS.values() if setting.ours}
    assert set(SETTINGS) - {fact["name"] for fact in FACTS["properties"]} == ours


def test_defaults_listen_where_kong_does_and_keep_the_admin_api_at_home() -> None:
    settings = _load()
    assert [str(listener) for listener in settings.listeners("proxy")] == [
        "0.0.0.0:8000 reuseport backlog=16384",
        "0.0.0.0:8443 http2 ssl reuseport backlog=16384",
    ]
    assert all(listener.is_loopback for listener in settings.listeners("admin"))
    assert settings.listeners("status")[0].port == 8007
    assert settings.database == "sqlite"
    assert settings.without_effect() == []


def test_environment_wins_over_the_file_ours_over_kongs_and_the_command_line_over_all(tmp_path: Path) -> None:
    path = _file(tmp_path, "log_level = debug\npg_host = file\npg_user = file\npg_database = file\n")
    environment = {"KONG_PG_HOST": "kong", "KONG_PG_USER": "kong", "PYLAE_PG_USER": "pylae", "KONG_PG_DATABASE": "kong"}
    settings = Settings.load(path, environ=environment, overrides={"pg_database": "flag"})
    assert (settings.log_level, settings.pg_host, settings.pg_user, settings.pg_database) == ("debug", "kong", "pylae", "flag")


def test_the_prefix_named_by_the_user_wins(tmp_path: Path) -> None:
    settings = Settings.load(prefix=tmp_path, environ={"KONG_PREFIX": "/elsewhere"})
    assert settings.prefix == str(tmp_path)


def test_a_file_may_have_comments_and_literal_number_signs(tmp_path: Path) -> None:
    text = "# head\n\npg_user = me # why\npg_password = a\\#b\ntrusted_ips = 10.0.0.0/8 , ::1,\n"
    settings = Settings.load(_file(tmp_path, text), environ={})
    assert (settings.pg_user, settings.pg_password, settings.trusted_ips) == ("me", "a#b", ["10.0.0.0/8", "::1"])


def test_an_unknown_name_in_a_file_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"line 2: there is no setting `proxy_lisen`; hint: the nearest is `proxy_listen`"):
        Settings.load(_file(tmp_path, "log_level = info\nproxy_lisen = 0.0.0.0:1\n"), environ={})


def test_a_line_without_equals_sign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line 1: `log_level` is not `name = value`"):
        Settings.load(_file(tmp_path, "log_level\n"), environ={})


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file at: "):
        Settings.load(tmp_path / "none.conf", environ={})


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (
            "PYLAE_ADMIN_AUTH_TOKENS",
            "the environment has PYLAE_ADMIN_AUTH_TOKENS, and there is no setting `admin_auth_tokens`; hint: the nearest is "
            "`PYLAE_ADMIN_AUTH_TOKEN`",
        ),
        (
            "PYLAE_XYZZY",
            "the environment has PYLAE_XYZZY, and there is no setting `xyzzy`; hint: a variable that is no setting needs a name "
            "that begins otherwise",
        ),
    ],
)
def test_an_unknown_variable_of_ours_is_refused_with_the_nearest_one(variable: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        _load(**{variable: "a-long-secret"})
    assert str(raised.value) == message


def test_a_misspelling_does_not_keep_a_gateway_from_being_found() -> None:
    settings = Settings.load(environ={"PYLAE_PREFIX": "/here", "PYLAE_LOG_LEVLE": "debug"}, resolves=False)
    assert settings.prefix == "/here"


def test_a_variable_that_looks_like_a_setting_of_kong_is_told() -> None:
    told = "the environment has KONG_ADMIN_LISTN, which is no setting and has no effect; hint: the nearest is `KONG_ADMIN_LISTEN`"
    settings = _load(kong_admin_listn="off", kong_version="3.10.0", kong_license_data="x")
    assert settings.misspelt == (told,)
    assert told in settings.warnings()


@pytest.mark.parametrize(
    "variable",
    [
        "PYLAE_ADMIN_SERVICE_HOST",
        "PYLAE_ADMIN_SERVICE_PORT_HTTP",
        "PYLAE_PORT",
        "PYLAE_PROXY_PORT_8000_TCP",
        "PYLAE_PORT_8000_TCP_ADDR",
        "KONG_ADMIN_LISTEN_SERVICE_HOST",
    ],
)
def test_what_kubernetes_calls_a_service_is_no_misspelling(variable: str) -> None:
    assert _load(**{variable: "10.0.0.1"}).misspelt == ()


def test_a_secret_is_no_misspelling() -> None:
    _load(pylae_admin_secret="a-long-secret", kong_admin_auth_token="{vault://env/pylae-admin-secret}")
    _load(pylae_vault_env_prefix="pylae-secret-", pylae_secret_x="y")


def test_names_of_the_users_choice_may_come_from_the_environment() -> None:
    settings = _load(pylae_nginx_http_gzip="on", pylae_vault_mine_x="1", kong_pluginserver_names="go")
    assert settings.misspelt == ()
    assert settings.directives["nginx_http_gzip"] == "on"


def test_unknown_variables_of_others_are_ignored() -> None:
    assert _load(kong_nonsense="1", kong_absurdity="1", kong_="1").given == frozenset()


def test_names_of_the_users_choice_are_kept(tmp_path: Path) -> None:
    settings = Settings.load(_file(tmp_path, "nginx_http_gzip = on\n"), environ={"KONG_NGINX_PROXY_CLIENT_MAX_BODY_SIZE": "2k"})
    assert settings.directives == {"nginx_http_gzip": "on", "nginx_proxy_client_max_body_size": "2k"}
    assert settings.client_max_body_size_bytes == 2048
    assert settings.without_effect() == ["nginx_http_gzip"]


def test_an_empty_value_counts_as_not_given() -> None:
    settings = _load(kong_plugins="", kong_log_level=" ")
    assert (settings.plugins, settings.log_level, settings.given) == (["bundled"], "notice", frozenset())


def test_two_names_of_a_property_share_a_value() -> None:
    assert _load(kong_nginx_worker_processes="3").nginx_main_worker_processes == "3"
    assert _load(kong_nginx_main_daemon="off").is_daemon is False
    assert _load(kong_real_ip_header="X-Forwarded-For").nginx_proxy_real_ip_header == "X-Forwarded-For"
    assert _load(kong_client_body_buffer_size="16k").client_body_buffer_size_bytes == 16384
    assert _load(kong_nginx_daemon="on", pylae_nginx_main_daemon="off").nginx_daemon == "off"


def test_a_property_that_sets_others_yields_to_their_own_values() -> None:
    settings = _load(kong_ssl_protocols="TLSv1.3", kong_nginx_stream_ssl_protocols="TLSv1.2")
    assert settings.nginx_http_ssl_protocols == "TLSv1.3"
    assert settings.nginx_stream_ssl_protocols == "TLSv1.2"


def test_types_are_parsed() -> None:
    settings = _load(kong_pg_ssl="true", kong_dns_error_ttl="0.5", kong_pg_port="6000", kong_plugins="bundled, my-plugin,")
    assert settings.pg_ssl is True
    assert settings.dns_error_ttl == 0.5
    assert settings.pg_port == 6000
    assert settings.plugins == ["bundled", "my-plugin"]
    assert _load(kong_pg_ssl="yes").pg_ssl is False


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"kong_pg_port": "x"}, "pg_port is not a number: 'x'"),
        ({"kong_pg_port": "nan"}, "pg_port is not a number: 'nan'"),
        (
            {"kong_log_level": "loud"},
            "log_level has an invalid value: 'loud' (debug, info, notice, warn, error, crit, alert, emerg)",
        ),
        ({"kong_database": "mysql"}, "database has an invalid value: 'mysql' (sqlite, postgres, cassandra, off)"),
        ({"kong_nginx_daemon": "maybe"}, "nginx_daemon is not a ngx_boolean: 'maybe'"),
        ({"kong_mem_cache_size": "big"}, "mem_cache_size is not a size: 'big'"),
        ({"kong_ssl_session_timeout": "soon"}, "ssl_session_timeout is not a duration: 'soon'"),
        ({"kong_headers": "x-powered-by"}, "headers: invalid entry 'x-powered-by'"),
        ({"kong_headers_upstream": "via"}, "headers_upstream: invalid entry 'via'"),
        (
            {"kong_trusted_ips": "10.0.0.0/8, home"},
            "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block or 'unix:', got 'home'",
        ),
        ({"kong_dns_order": "A,PTR"}, "dns_order: invalid entry 'PTR'"),
        ({"kong_resolver_family": "A,CNAME"}, "resolver_family: invalid entry 'CNAME'"),
        ({"kong_dns_stale_ttl": "-1"}, "dns_stale_ttl must be 0 or greater"),
        ({"kong_resolver_error_ttl": "-0.5"}, "resolver_error_ttl must be 0 or greater"),
        ({"kong_dns_cache_size": "0"}, "dns_cache_size must be 1 or greater"),
        ({"kong_dns_resolver": "dns.example.com"}, "dns_resolver must be a comma separated list"),
        ({"kong_ssl_cert_key": "/k"}, "ssl_cert must be specified"),
        ({"kong_admin_ssl_cert": "/c"}, "admin_ssl_cert_key must be specified"),
        (
            {"kong_ssl_cert": "/c,/d", "kong_ssl_cert_key": "/k"},
            "ssl_cert was specified 2 times while ssl_cert_key was specified 1",
        ),
        ({"kong_ssl_cert": "/none", "kong_ssl_cert_key": "/none"}, "ssl_cert: failed loading certificate from /none"),
        ({"kong_port_maps": "80"}, "invalid port mapping (`port_maps`): 80"),
        ({"kong_node_id": "me"}, "node_id must be a valid UUID"),
        ({"kong_nginx_worker_processes": "0"}, "nginx_worker_processes has an invalid value: '0'"),
        (
            {"kong_nginx_http_large_client_header_buffers": "8k"},
            "nginx_http_large_client_header_buffers has an invalid value: '8k'",
        ),
        ({"kong_nginx_events_worker_connections": "many"}, "nginx_events_worker_connections has an invalid value: 'many'"),
        ({"kong_nginx_http_send_timeout": "soon"}, "nginx_http_send_timeout is not a duration: 'soon'"),
        ({"kong_nginx_proxy_client_max_body_size": "huge"}, "nginx_proxy_client_max_body_size is not a size: 'huge'"),
        ({"kong_worker_state_update_frequency": "0"}, "worker_state_update_frequency must be greater than 0"),
        ({"kong_tracing_sampling_rate": "2"}, "tracing_sampling_rate must be between 0 and 1"),
        ({"pylae_explain_sample_ratio": "1.5"}, "explain_sample_ratio must be between 0 and 1"),
        ({"pylae_explain_keep_count": "-1"}, "explain_keep_count must be an integer, 0 or greater"),
        ({"pylae_explain_keep_count": "0.5"}, "explain_keep_count must be an integer, 0 or greater"),
        ({"pylae_explain_keep_s": "0"}, "explain_keep_s must be greater than 0"),
        ({"pylae_explain_keep_size": "much"}, "explain_keep_size is not a size: 'much'"),
        ({"pylae_explain_headers": "all"}, "explain_headers has an invalid value: 'all' (off, trusted, on)"),
        ({"kong_lua_max_uri_args": "0"}, "lua_max_uri_args must be an integer between 1 and 1000"),
        ({"kong_upstream_keepalive_pool_size": "-1"}, "upstream_keepalive_pool_size must be 0 or greater"),
        ({"kong_cluster_data_plane_purge_delay": "59"}, "cluster_data_plane_purge_delay must be 60 or greater"),
        ({"kong_cluster_max_payload": "1"}, "cluster_max_payload must be 4194304 (4MB) or greater"),
        ({"kong_role": "control_plane"}, "cluster certificate and key must be provided to use Hybrid mode"),
        (
            {"kong_role": "control_plane", "kong_database": "off"},
            'in-memory storage can not be used when role = "control_plane"',
        ),
        (
            {"kong_role": "control_plane", "kong_admin_listen": "off"},
            'admin_listen must be specified when role = "control_plane"',
        ),
        ({"kong_role": "data_plane"}, 'only in-memory storage can be used when role = "data_plane"'),
        ({"kong_cluster_dp_labels": "a:b"}, "cluster_dp_labels can only be used on a data plane"),
        ({"kong_proxy_listen": "8000"}, "proxy_listen must be of form: [off] | <ip>:<port> [ssl] [http2]"),
        ({"kong_proxy_listen": "0.0.0.0:8000 fast"}, "proxy_listen must be of form"),
        ({"kong_proxy_listen": "0.0.0.0:80000"}, "proxy_listen must be of form"),
        (
            {"kong_pg_password": "{vault://env/pg}"},
            "pg_password can't be resolved: {vault://env/pg}: the environment has no variable PG",
        ),
        ({"kong_admin_listen": "0.0.0.0:8001"}, "admin_listen 0.0.0.0:8001 can be reached from beyond this machine"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_as_kong_says_it(environment: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(**environment)
    assert any(line.startswith(text) for line in str(caught.value).splitlines()), str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        _load(kong_pg_port="x", kong_log_level="loud", kong_headers="nope")
    assert len(str(caught.value).splitlines()) == 3


def test_the_admin_api_may_be_opened_on_purpose() -> None:
    settings = _load(kong_admin_listen="0.0.0.0:8001", pylae_admin_allow_remote_without_auth="on")
    assert settings.listeners("admin") == [Listener("0.0.0.0", 8001)]


def test_listeners_are_split_into_address_port_and_flags() -> None:
    settings = _load(
        kong_proxy_listen="[::1]:9000 ssl http2 backlog=5 so_keepalive=30m::10, localhost:9001", kong_status_listen="off"
    )
    first, second = settings.listeners("proxy")
    assert (first.address, first.port, first.is_tls, first.is_loopback, first.flag("backlog")) == ("::1", 9000, True, True, "5")
    assert (first.flag("ssl"), first.flag("bind")) == ("", None)
    assert str(first) == "[::1]:9000 ssl http2 backlog=5 so_keepalive=30m::10"
    assert (second.address, second.is_tls, second.is_loopback) == ("localhost", False, True)
    assert settings.listeners("status") == []


def test_header_tokens_stand_for_headers() -> None:
    assert _load().enabled_headers == {
        *("server", "via", "x-kong-request-id"),
        *("x-kong-proxy-latency", "x-kong-response-latency", "x-kong-admin-latency", "x-kong-upstream-latency"),
    }
    assert _load(kong_headers="off").enabled_headers == frozenset()
    assert _load(kong_headers="Server, x-kong-upstream-status").enabled_headers == {"server", "x-kong-upstream-status"}
    assert _load(kong_headers_upstream="off").enabled_headers_upstream == frozenset()


@pytest.mark.parametrize(("text", "size_bytes"), [("0", 0), ("8k", 8192), ("10m", 10485760), ("1G", 1073741824), ("17", 17)])
def test_sizes(text: str, size_bytes: int) -> None:
    assert _load(kong_nginx_http_client_max_body_size=text).client_max_body_size_bytes == size_bytes


@pytest.mark.parametrize(("text", "duration_s"), [("1d", 86400), ("90", 90), ("1h 30m", 5400), ("500ms", 0.5)])
def test_durations(text: str, duration_s: float) -> None:
    assert _load(kong_ssl_session_timeout=text).duration_s("ssl_session_timeout") == duration_s


def test_published_ports_are_found_by_the_port_listened_on() -> None:
    assert _load(kong_port_maps="80:8000, 443:8443").published_ports == {8000: 80, 8443: 443}


def test_logs_are_files_under_the_prefix_or_off(tmp_path: Path) -> None:
    settings = Settings.load(
        prefix=tmp_path, environ={"KONG_PROXY_ACCESS_LOG": "off", "KONG_PROXY_ERROR_LOG": "/dev/stderr basic"}
    )
    assert settings.log_path("proxy_access_log") is None
    assert settings.log_path("proxy_error_log") == Path("/dev/stderr")
    assert settings.log_path("admin_access_log") == tmp_path / "logs" / "admin_access.log"


def test_what_has_no_effect_is_named_once_and_only_when_it_was_changed() -> None:
    settings = _load(kong_pg_host="db", kong_lua_package_path="./?.lua;./?/init.lua;", kong_anonymous_reports="off")
    assert settings.without_effect() == ["pg_host"]
    assert _load(kong_admin_gui_listen="off").without_effect() == []


def test_settings_survive_the_environment_file(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB#100%\n-----END CERTIFICATE-----"
    environment = {
        "KONG_PLUGINS": "bundled,my-plugin",
        "KONG_PG_PASSWORD": "a#b%0A%c",
        "KONG_SSL_CERT": pem,
        "KONG_SSL_CERT_KEY": pem,
        "KONG_NGINX_DAEMON": "off",
        "KONG_NGINX_HTTP_GZIP": "on",
        "KONG_PG_SSL": "on",
    }
    settings = Settings.load(prefix=tmp_path, environ=environment)
    path = tmp_path / ".kong_env"
    settings.write_env(path)
    read = Settings.from_prefix(tmp_path)
    assert read.as_dict(hide_secrets=False) == settings.as_dict(hide_secrets=False)
    assert read.pg_password == "a#b%0A%c"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Settings.load(prefix=tmp_path, environ={"KONG_LOG_LEVEL": "warn"}).write_env(tmp_path / ".kong_env")
    monkeypatch.setenv("KONG_LOG_LEVEL", "debug")
    assert Settings.from_prefix(tmp_path).log_level == "warn"


def test_a_prefix_without_environment_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        Settings.from_prefix(tmp_path)


def test_secrets_are_hidden() -> None:
    settings = _load(kong_pg_password="hush", kong_vault_hcv_token="hush", kong_vault_env_prefix="P_")
    shown = settings.as_dict()
    assert (shown["pg_password"], shown["vault_hcv_token"], shown["vault_env_prefix"]) == ("******", "******", "P_")
    assert shown["cluster_cert_key"] is None
    assert "hush" not in repr(settings)


def test_the_default_prefix_is_the_systems_or_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM_PREFIX", str(tmp_path / "local" / "pylae"))
    assert module.default_prefix() == str(tmp_path / "local" / "pylae")
    monkeypatch.setattr(module, "SYSTEM_PREFIX", "/proc/pylae")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert module.default_prefix() == str(tmp_path / ".local" / "share" / "pylae")


def test_listeners_are_shown_flag_by_flag() -> None:
    shown = _load(kong_proxy_listen="0.0.0.0:8000 reuseport backlog=16384, [::1]:8443 ssl http2").as_dict()
    plain, tls = shown["proxy_listeners"]
    assert plain == {
        "ip": "0.0.0.0",
        "port": 8000,
        "listener": "0.0.0.0:8000 reuseport backlog=16384",
        "ssl": False,
        "http2": False,
        "proxy_protocol": False,
        "deferred": False,
        "bind": False,
        "reuseport": True,
        "backlog=%d+": True,
        "ipv6only=on": False,
    }
    assert (tls["ip"], tls["port"], tls["ssl"], tls["http2"]) == ("[::1]", 8443, True, True)
    assert shown["stream_listeners"] == []


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8001 reuseport, 127.0.0.1:8444 ssl", "http://localhost:8001"),
        ("127.0.0.1:8444 ssl, 127.0.0.1:9001", "http://localhost:9001"),
        ("127.0.0.1:8444 ssl http2", "https://localhost:8444"),
        ("[::1]:8001", "http://[::1]:8001"),
        ("localhost:1", "http://localhost:1"),
        ("off", "http://localhost:8001"),
    ],
)
def test_the_admin_api_is_called_where_it_listens(tmp_path: Path, listen: str, url: str) -> None:
    assert Settings.load(prefix=tmp_path, environ={"PYLAE_ADMIN_LISTEN": listen}).admin_url == url
