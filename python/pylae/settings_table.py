# SPDX-License-Identifier: Apache-2.0
"""Which settings are there, of which type, with which default, and what do they do?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SettingType = Literal["string", "enum", "array", "boolean", "ngx_boolean", "number", "size", "duration"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One property of `kong.conf`."""

    name: str
    type: SettingType
    default: str | None
    """As it would stand in a file."""
    doc: str
    enum: tuple[str, ...] = ()
    unit: str | None = None
    secret: bool = False
    alias_of: str | None = None
    """Another name of the same property, under which nginx's own directive can be given."""
    deprecated: bool = False
    also_sets: tuple[str, ...] = ()
    """Properties that take this one's value unless they have their own."""
    ours: bool = False
    """Kong does not have it."""

    @property
    def environment_names(self) -> tuple[str, str]:
        """The variables that set it, the stronger one first."""
        return (f"PYLAE_{self.name.upper()}", f"KONG_{self.name.upper()}")


DYNAMIC_PREFIXES: Final = (
    "nginx_main_",
    "nginx_events_",
    "nginx_http_",
    "nginx_upstream_",
    "nginx_proxy_",
    "nginx_location_",
    "nginx_status_",
    "nginx_admin_",
    "nginx_stream_",
    "nginx_supstream_",
    "nginx_sproxy_",
    "nginx_wasm_",
    "pluginserver_",
    "vault_",
)
"""Beginnings of names of the user's own choice."""

_TABLE: Final = (
    Setting("prefix", "string", None, "Working directory of the node: process ids, logs, sockets, database."),
    Setting(
        "log_level",
        "enum",
        "notice",
        "Lowest severity that goes to the error log.",
        enum=("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"),
    ),
    Setting("proxy_access_log", "string", "logs/access.log", "Access log file of the proxy, or off; may name a log format."),
    Setting("proxy_error_log", "string", "logs/error.log", "Error log file of the proxy."),
    Setting("proxy_stream_access_log", "string", "logs/access.log basic", "Access log of stream (L4) proxying."),
    Setting("proxy_stream_error_log", "string", "logs/error.log", "Error log of stream proxying."),
    Setting("admin_access_log", "string", "logs/admin_access.log", "Access log of the Admin API."),
    Setting("admin_error_log", "string", "logs/error.log", "Error log of the Admin API."),
    Setting("admin_gui_access_log", "string", "logs/admin_gui_access.log", "Access log of the web GUI."),
    Setting("admin_gui_error_log", "string", "logs/admin_gui_error.log", "Error log of the web GUI."),
    Setting("status_access_log", "string", "off", "Access log of the status API."),
    Setting("status_error_log", "string", "logs/status_error.log", "Error log of the status API."),
    Setting("vaults", "array", "bundled", "Secret back ends to load; bundled means the built-in set (env), off none."),
    Setting(
        "plugins",
        "array",
        "bundled",
        "Plugins to load: `bundled` stands for the built-in set, names may be added, `off` is none.",
    ),
    Setting("port_maps", "array", None, "Published:listened port pairs, so forwarded ports show the published one."),
    Setting("host_ports", "string", None, "Internal, filled from port_maps."),
    Setting("anonymous_reports", "boolean", "on", "Usage reports to the vendor; never sent."),
    Setting("proxy_server", "string", None, "Forward HTTP proxy URL for outgoing control connections.", secret=True),
    Setting("proxy_server_ssl_verify", "boolean", "on", "Verify the certificate of an https forward proxy."),
    Setting(
        "error_template_html",
        "string",
        None,
        "File replacing the built-in HTML error page; at most two `%s`: message, request id.",
    ),
    Setting(
        "error_template_json",
        "string",
        None,
        "File replacing the built-in JSON error body; at most two `%s`: message, request id.",
    ),
    Setting(
        "error_template_xml", "string", None, "File replacing the built-in XML error body; at most two `%s`: message, request id."
    ),
    Setting(
        "error_template_plain",
        "string",
        None,
        "File replacing the built-in plain text error body; at most two `%s`: message, request id.",
    ),
    Setting("node_id", "string", None, "Fixed node UUID instead of a generated one."),
    Setting(
        "proxy_listen",
        "array",
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        "Addresses of the HTTP proxy with flags.",
    ),
    Setting("stream_listen", "array", "off", "Addresses of the TCP/TLS/UDP proxy."),
    Setting(
        "admin_listen",
        "array",
        "127.0.0.1:8001 reuseport backlog=16384, 127.0.0.1:8444 http2 ssl reuseport backlog=16384",
        "Addresses of the Admin API.",
    ),
    Setting("admin_gui_listen", "array", "0.0.0.0:8002, 0.0.0.0:8445 ssl", "Addresses of the web console; none is opened yet."),
    Setting("status_listen", "array", "127.0.0.1:8007 reuseport backlog=16384", "Addresses of the status API."),
    Setting("cluster_listen", "array", "0.0.0.0:8005", "Address where a control plane waits for data planes."),
    Setting("cluster_control_plane", "string", "127.0.0.1:8005", "Host:port of the control plane (data plane side)."),
    Setting("cluster_cert", "string", None, "Certificate for CP/DP mutual TLS."),
    Setting("cluster_cert_key", "string", None, "Private key that goes with `cluster_cert`.", secret=True),
    Setting(
        "cluster_mtls",
        "enum",
        "shared",
        "Shared = one certificate pinned on both sides; pki = CA-signed certificates.",
        enum=("shared", "pki"),
    ),
    Setting("cluster_ca_cert", "string", None, "CA for pki mode."),
    Setting("cluster_server_name", "string", None, "Server name used by the data plane in pki mode."),
    Setting(
        "cluster_data_plane_purge_delay",
        "number",
        "1209600",
        "Seconds without contact after which a data plane record is removed (minimum 60).",
        unit="seconds",
    ),
    Setting(
        "cluster_ocsp",
        "enum",
        "off",
        "Revocation check of data plane certificates by the control plane.",
        enum=("on", "off", "optional"),
    ),
    Setting(
        "cluster_max_payload",
        "number",
        "16777216",
        "Largest compressed configuration message in bytes (minimum 4194304).",
        unit="bytes",
    ),
    Setting("cluster_use_proxy", "boolean", "off", "Reach the control plane through proxy_server."),
    Setting("cluster_dp_labels", "array", None, "Key:value labels reported by a data plane."),
    Setting("cluster_rpc", "boolean", "off", "JSON-RPC channel between CP and DP."),
    Setting("cluster_rpc_sync", "boolean", "off", "Incremental configuration sync over `cluster_rpc`."),
    Setting("cluster_cjson", "boolean", "off", "Use the older JSON codec for cluster messages."),
    Setting("lmdb_environment_path", "string", "dbless.lmdb", "Directory of the on-disk store used without a database."),
    Setting("lmdb_map_size", "size", "2048m", "Largest size of the on-disk store used without a database."),
    Setting("mem_cache_size", "size", "128m", "Size of each entity cache memory zone."),
    Setting("worker_events_max_payload", "number", "65535", "Largest inter-worker event in bytes.", unit="bytes"),
    Setting("ssl_cert", "array", None, "Proxy certificates (several allowed); path, PEM text or base64."),
    Setting("ssl_cert_key", "array", None, "Private keys of `ssl_cert`, in the same order.", secret=True),
    Setting("client_ssl", "boolean", "off", "Present a client certificate to upstream services by default."),
    Setting("client_ssl_cert", "string", None, "Client certificate for `client_ssl`."),
    Setting("client_ssl_cert_key", "string", None, "Private key of the client certificate for `client_ssl`.", secret=True),
    Setting(
        "ssl_cipher_suite",
        "string",
        "intermediate",
        "Named set of ciphers: `modern`, `intermediate`, `old`, `fips`, or `custom` for `ssl_ciphers`.",
    ),
    Setting("ssl_ciphers", "string", None, "Cipher list used with custom."),
    Setting(
        "ssl_protocols",
        "string",
        "TLSv1.2 TLSv1.3",
        "TLS versions accepted from clients.",
        also_sets=(
            "nginx_http_ssl_protocols",
            "nginx_stream_ssl_protocols",
        ),
    ),
    Setting(
        "ssl_prefer_server_ciphers",
        "ngx_boolean",
        "on",
        "Server order wins.",
        also_sets=(
            "nginx_http_ssl_prefer_server_ciphers",
            "nginx_stream_ssl_prefer_server_ciphers",
        ),
    ),
    Setting(
        "ssl_dhparam",
        "string",
        None,
        "DH parameters: file or predefined group name.",
        also_sets=(
            "nginx_http_ssl_dhparam",
            "nginx_stream_ssl_dhparam",
        ),
    ),
    Setting(
        "ssl_session_tickets",
        "ngx_boolean",
        "on",
        "TLS session tickets.",
        also_sets=(
            "nginx_http_ssl_session_tickets",
            "nginx_stream_ssl_session_tickets",
        ),
    ),
    Setting(
        "ssl_session_timeout",
        "duration",
        "1d",
        "TLS session reuse time.",
        also_sets=(
            "nginx_http_ssl_session_timeout",
            "nginx_stream_ssl_session_timeout",
        ),
    ),
    Setting("ssl_session_cache_size", "size", "10m", "Shared TLS session cache size."),
    Setting("admin_ssl_cert", "array", None, "Admin API certificates."),
    Setting("admin_ssl_cert_key", "array", None, "Admin API keys.", secret=True),
    Setting("admin_gui_ssl_cert", "array", None, "GUI certificates."),
    Setting("admin_gui_ssl_cert_key", "array", None, "GUI keys.", secret=True),
    Setting("status_ssl_cert", "array", None, "Status API certificates."),
    Setting("status_ssl_cert_key", "array", None, "Status API keys.", secret=True),
    Setting(
        "headers",
        "array",
        "server_tokens, latency_tokens, x-kong-request-id",
        "Which of the gateway's own headers go to clients; `off` for none.",
    ),
    Setting("headers_upstream", "array", "x-kong-request-id", "Which of the gateway's own headers go upstream; `off` for none."),
    Setting(
        "trusted_ips", "array", None, "Peers whose `X-Forwarded-*` and real address headers are believed; `unix:` is allowed."
    ),
    Setting(
        "error_default_type",
        "enum",
        "text/plain",
        "Error body type when neither Accept nor Content-Type was sent.",
        enum=("application/json", "application/xml", "text/html", "text/plain"),
    ),
    Setting(
        "upstream_keepalive_pool_size",
        "number",
        "512",
        "Idle upstream connections kept per pool; 0 disables reuse.",
        unit="connections",
    ),
    Setting(
        "upstream_keepalive_max_requests", "number", "10000", "Requests per upstream connection; 0 unlimited.", unit="requests"
    ),
    Setting(
        "upstream_keepalive_idle_timeout",
        "number",
        "60",
        "Idle seconds before an upstream connection closes; 0 never.",
        unit="seconds",
    ),
    Setting(
        "allow_debug_header", "boolean", "off", "Honour Kong-Debug: 1 and answer with Kong-Route-Id/-Name, Kong-Service-Id/-Name."
    ),
    Setting(
        "nginx_user",
        "string",
        "pylae pylae",
        "User and group of the workers; ignored when not started by root or when the user does not exist.",
        alias_of="nginx_main_user",
    ),
    Setting(
        "nginx_worker_processes",
        "string",
        "auto",
        "Number of workers; `auto` is one for each processor.",
        alias_of="nginx_main_worker_processes",
    ),
    Setting(
        "nginx_daemon",
        "ngx_boolean",
        "on",
        "Whether `start` leaves the gateway running in the background.",
        alias_of="nginx_main_daemon",
    ),
    Setting("nginx_main_daemon", "ngx_boolean", "on", "Whether `start` leaves the gateway running in the background."),
    Setting(
        "nginx_main_user",
        "string",
        "pylae pylae",
        "User and group of the workers; ignored when not started by root or when the user does not exist.",
    ),
    Setting("nginx_main_worker_processes", "string", "auto", "Number of workers; `auto` is one for each processor."),
    Setting(
        "nginx_main_worker_rlimit_nofile", "string", "auto", "Open file limit per worker; auto = ulimit between 1024 and 16384."
    ),
    Setting(
        "nginx_events_worker_connections",
        "string",
        "auto",
        "Largest number of connections of a worker; `auto` follows the limit of open files.",
    ),
    Setting("nginx_events_multi_accept", "ngx_boolean", "on", "Accept several connections at once."),
    Setting("nginx_http_charset", "string", "UTF-8", "Charset added to response Content-Type."),
    Setting("nginx_http_client_max_body_size", "size", "0", "Largest request body on the proxy; 0 no limit; over it 413."),
    Setting(
        "nginx_http_client_body_buffer_size",
        "size",
        "8k",
        "Size up to which a request body is kept in memory; what is larger goes to a file.",
    ),
    Setting("nginx_http_ssl_protocols", "string", None, "TLS versions accepted from clients, over `ssl_protocols`."),
    Setting(
        "nginx_http_ssl_prefer_server_ciphers", "string", None, "Directive `ssl_prefer_server_ciphers` of nginx's `http` block."
    ),
    Setting("nginx_http_ssl_dhparam", "string", None, "Directive `ssl_dhparam` of nginx's `http` block."),
    Setting("nginx_http_ssl_session_tickets", "string", None, "Directive `ssl_session_tickets` of nginx's `http` block."),
    Setting("nginx_http_ssl_session_timeout", "duration", None, "Directive `ssl_session_timeout` of nginx's `http` block."),
    Setting("nginx_http_ssl_conf_command", "string", None, "Directive `ssl_conf_command` of nginx's `http` block."),
    Setting("nginx_http_proxy_ssl_conf_command", "string", None, "Directive `proxy_ssl_conf_command` of nginx's `http` block."),
    Setting("nginx_http_lua_ssl_conf_command", "string", None, "Directive `lua_ssl_conf_command` of nginx's `http` block."),
    Setting("nginx_http_grpc_ssl_conf_command", "string", None, "Directive `grpc_ssl_conf_command` of nginx's `http` block."),
    Setting("nginx_http_lua_regex_match_limit", "string", "100000", "Regex backtracking limit."),
    Setting("nginx_http_lua_regex_cache_max_entries", "string", "8192", "Compiled regex cache size."),
    Setting("nginx_http_keepalive_requests", "string", "10000", "Requests per client connection."),
    Setting("nginx_stream_ssl_conf_command", "string", None, "Directive `ssl_conf_command` of nginx's `stream` block."),
    Setting(
        "nginx_stream_proxy_ssl_conf_command", "string", None, "Directive `proxy_ssl_conf_command` of nginx's `stream` block."
    ),
    Setting("nginx_stream_lua_ssl_conf_command", "string", None, "Directive `lua_ssl_conf_command` of nginx's `stream` block."),
    Setting("nginx_stream_ssl_protocols", "string", None, "Directive `ssl_protocols` of nginx's `stream` block."),
    Setting(
        "nginx_stream_ssl_prefer_server_ciphers",
        "string",
        None,
        "Directive `ssl_prefer_server_ciphers` of nginx's `stream` block.",
    ),
    Setting("nginx_stream_ssl_dhparam", "string", None, "Directive `ssl_dhparam` of nginx's `stream` block."),
    Setting("nginx_stream_ssl_session_tickets", "string", None, "Directive `ssl_session_tickets` of nginx's `stream` block."),
    Setting("nginx_stream_ssl_session_timeout", "duration", None, "Directive `ssl_session_timeout` of nginx's `stream` block."),
    Setting(
        "nginx_proxy_real_ip_header",
        "string",
        "X-Real-IP",
        "Header that carries the client's address: `X-Real-IP`, `X-Forwarded-For` or `proxy_protocol`.",
    ),
    Setting(
        "nginx_proxy_real_ip_recursive",
        "ngx_boolean",
        "off",
        "Whether trusted hops are skipped from the right in the header that carries the client's address.",
    ),
    Setting("nginx_admin_client_max_body_size", "size", "10m", "Largest Admin API body."),
    Setting("nginx_admin_client_body_buffer_size", "size", "10m", "Admin API body buffer."),
    Setting(
        "client_body_buffer_size",
        "size",
        "8k",
        "Size up to which a request body is kept in memory; what is larger goes to a file.",
        alias_of="nginx_http_client_body_buffer_size",
    ),
    Setting(
        "real_ip_header",
        "string",
        "X-Real-IP",
        "Header that carries the client's address: `X-Real-IP`, `X-Forwarded-For` or `proxy_protocol`.",
        alias_of="nginx_proxy_real_ip_header",
    ),
    Setting(
        "real_ip_recursive",
        "ngx_boolean",
        "off",
        "Whether trusted hops are skipped from the right in the header that carries the client's address.",
        alias_of="nginx_proxy_real_ip_recursive",
    ),
    Setting(
        "database",
        "enum",
        "sqlite",
        "Where the configuration lives; `off` reads it from a declarative file.",
        enum=("sqlite", "postgres", "cassandra", "off"),
    ),
    Setting("pg_host", "string", "127.0.0.1", "Postgres host or socket directory."),
    Setting("pg_port", "number", "5432", "Postgres port.", unit="port"),
    Setting("pg_database", "string", "kong", "Name of the Postgres database."),
    Setting("pg_schema", "string", None, "Schema (search_path) if any."),
    Setting("pg_timeout", "number", "5000", "Connect/read/write timeout in ms.", unit="milliseconds"),
    Setting("pg_user", "string", "kong", "Name of the Postgres user."),
    Setting("pg_password", "string", None, "Password of the Postgres user.", secret=True),
    Setting("pg_ssl", "boolean", "off", "Use TLS to Postgres."),
    Setting("pg_ssl_verify", "boolean", "off", "Whether the certificate of Postgres is verified."),
    Setting("pg_max_concurrent_queries", "number", "0", "Queries at once per worker; 0 unlimited.", unit="queries"),
    Setting("pg_semaphore_timeout", "number", "60000", "Ms to wait for a query slot.", unit="milliseconds"),
    Setting("pg_keepalive_timeout", "number", None, "Ms an idle connection is kept.", unit="milliseconds"),
    Setting("pg_pool_size", "number", None, "Connection pool size.", unit="connections"),
    Setting("pg_backlog", "number", None, "Waiting connection requests beyond the pool.", unit="connections"),
    Setting(
        "_debug_pg_ttl_cleanup_interval", "number", "300", "Internal: seconds between deletions of expired rows.", unit="seconds"
    ),
    Setting("pg_ro_host", "string", None, "Optional read-only Postgres."),
    Setting("pg_ro_port", "number", None, "Read-only port.", unit="port"),
    Setting("pg_ro_database", "string", None, "Read-only database."),
    Setting("pg_ro_schema", "string", None, "Read-only schema."),
    Setting("pg_ro_timeout", "number", None, "Read-only timeout ms.", unit="milliseconds"),
    Setting("pg_ro_user", "string", None, "Read-only user."),
    Setting("pg_ro_password", "string", None, "Password of the read-only Postgres user.", secret=True),
    Setting("pg_ro_ssl", "boolean", None, "Whether TLS is used to the read-only Postgres."),
    Setting("pg_ro_ssl_verify", "boolean", None, "Whether the certificate of the read-only Postgres is verified."),
    Setting("pg_ro_max_concurrent_queries", "number", None, "Read-only query limit.", unit="queries"),
    Setting("pg_ro_semaphore_timeout", "number", None, "Read-only slot wait ms.", unit="milliseconds"),
    Setting("pg_ro_keepalive_timeout", "number", None, "Read-only idle ms.", unit="milliseconds"),
    Setting("pg_ro_pool_size", "number", None, "Read-only pool size.", unit="connections"),
    Setting("pg_ro_backlog", "number", None, "Read-only backlog.", unit="connections"),
    Setting("declarative_config", "string", None, "Configuration file loaded at start without a database."),
    Setting(
        "declarative_config_string",
        "string",
        None,
        "Configuration loaded at start without a database, as inline text.",
        secret=True,
    ),
    Setting(
        "db_update_frequency",
        "number",
        "5",
        "Seconds between polls for changes (and least gap between CP pushes).",
        unit="seconds",
    ),
    Setting("db_update_propagation", "number", "0", "Seconds allowed for replica lag.", unit="seconds"),
    Setting("db_cache_ttl", "number", "0", "Seconds an entity stays cached; 0 forever.", unit="seconds"),
    Setting("db_cache_neg_ttl", "number", None, "Seconds a miss stays cached; unset = db_cache_ttl.", unit="seconds"),
    Setting(
        "db_resurrect_ttl", "number", "30", "Seconds a stale entity may be served when the database is down.", unit="seconds"
    ),
    Setting("db_cache_warmup_entities", "array", "services", "Entities loaded into cache at start."),
    Setting("dns_resolver", "array", None, "Name servers ip[:port]; default from resolv.conf."),
    Setting("dns_hostsfile", "string", "/etc/hosts", "Hosts file."),
    Setting(
        "dns_resolv_conf",
        "string",
        "/etc/resolv.conf",
        "File with search domains and options of names, and with name servers where none are set.",
        ours=True,
    ),
    Setting("dns_order", "array", "LAST,SRV,A,CNAME", "Record types tried in order: LAST, SRV, A, AAAA, CNAME."),
    Setting("dns_valid_ttl", "number", None, "Overrides the TTL of answers.", unit="seconds"),
    Setting("dns_stale_ttl", "number", "3600", "Seconds an expired record may serve while it is refreshed.", unit="seconds"),
    Setting("dns_cache_size", "number", "10000", "Cached names per worker.", unit="names"),
    Setting("dns_not_found_ttl", "number", "30", "Cache seconds for empty and NXDOMAIN answers.", unit="seconds"),
    Setting("dns_error_ttl", "number", "1", "Cache seconds for server errors.", unit="seconds"),
    Setting("dns_no_sync", "boolean", "off", "One query per request instead of one shared query."),
    Setting("new_dns_client", "boolean", "off", "Use the rewritten DNS client and the resolver_* settings."),
    Setting("resolver_address", "array", None, "Name servers of the new client."),
    Setting("resolver_hosts_file", "string", "/etc/hosts", "Hosts file of the new client."),
    Setting("resolver_family", "array", "A,SRV", "Query types A, AAAA, SRV; SRV only for _proto._service names."),
    Setting("resolver_valid_ttl", "number", None, "TTL override.", unit="seconds"),
    Setting("resolver_stale_ttl", "number", "3600", "Stale seconds.", unit="seconds"),
    Setting("resolver_lru_cache_size", "number", "10000", "Per-worker cache entries.", unit="names"),
    Setting("resolver_mem_cache_size", "size", "5m", "Shared cache size."),
    Setting("resolver_error_ttl", "number", "1", "Cache seconds for errors.", unit="seconds"),
    Setting("dedicated_config_processing", "boolean", "on", "Data plane uses a separate process for configuration work."),
    Setting(
        "worker_consistency",
        "enum",
        "eventual",
        "Eventual = router rebuilt by timer; strict = on the request path (deprecated).",
        enum=("strict", "eventual"),
    ),
    Setting("worker_state_update_frequency", "number", "5", "Seconds between those rebuild checks.", unit="seconds"),
    Setting(
        "router_flavor",
        "enum",
        "traditional_compatible",
        "Which language Routes are written in.",
        enum=("traditional", "traditional_compatible", "expressions"),
    ),
    Setting("lua_socket_pool_size", "number", "256", "Idle outgoing connections pool size.", unit="connections"),
    Setting("lua_ssl_trusted_certificate", "array", "system", "CA bundles for outgoing TLS; system = platform bundle."),
    Setting("lua_ssl_verify_depth", "number", "1", "Chain depth for outgoing TLS.", unit="certificates"),
    Setting(
        "lua_ssl_protocols",
        "string",
        "TLSv1.2 TLSv1.3",
        "TLS versions for outgoing connections.",
        also_sets=(
            "nginx_http_lua_ssl_protocols",
            "nginx_stream_lua_ssl_protocols",
        ),
    ),
    Setting("lua_package_path", "string", "./?.lua;./?/init.lua;", "Module search path."),
    Setting("lua_package_cpath", "string", None, "Native module search path."),
    Setting("lua_max_req_headers", "number", "100", "Request headers parsed (1..1000).", unit="headers"),
    Setting("lua_max_resp_headers", "number", "100", "Response headers parsed (1..1000).", unit="headers"),
    Setting("lua_max_uri_args", "number", "100", "Query args parsed (1..1000).", unit="arguments"),
    Setting("lua_max_post_args", "number", "100", "Form args parsed (1..1000).", unit="arguments"),
    Setting(
        "role",
        "enum",
        "traditional",
        "Whether the node is a control plane, a data plane, or both at once (traditional).",
        enum=("data_plane", "control_plane", "traditional"),
    ),
    Setting("kic", "boolean", "off", "Node is driven by the Kubernetes ingress controller."),
    Setting(
        "pluginserver_names",
        "array",
        None,
        "External plugin servers; each has pluginserver_<name>_socket, _start_cmd, _query_cmd.",
    ),
    Setting(
        "untrusted_lua",
        "enum",
        "sandbox",
        "Whether Lua code given by users runs: freely, in a sandbox, or not at all.",
        enum=("on", "off", "sandbox"),
    ),
    Setting("untrusted_lua_sandbox_requires", "array", None, "Modules the sandbox may require."),
    Setting("untrusted_lua_sandbox_environment", "array", None, "Globals the sandbox may see."),
    Setting("admin_gui_url", "array", None, "Public URL(s) of the GUI; also the allowed CORS origins of the Admin API."),
    Setting("admin_gui_path", "string", "/", "URL path prefix of the GUI."),
    Setting("admin_gui_api_url", "string", None, "Admin API address the GUI calls."),
    Setting("admin_gui_csp_header", "boolean", "off", "Send a Content-Security-Policy with the GUI."),
    Setting("openresty_path", "string", None, "Path of the platform installation."),
    Setting(
        "opentelemetry_tracing",
        "array",
        "off",
        "Old name of `tracing_instrumentations`.",
        alias_of="tracing_instrumentations",
        deprecated=True,
    ),
    Setting(
        "opentelemetry_tracing_sampling_rate",
        "number",
        "0.01",
        "Old name of `tracing_sampling_rate`.",
        unit="ratio",
        alias_of="tracing_sampling_rate",
        deprecated=True,
    ),
    Setting(
        "tracing_instrumentations",
        "array",
        "off",
        "What is traced: `off`, `all`, or some of `request`, `router`, `balancer`, `db_query`, `plugin_access` and so on.",
    ),
    Setting("tracing_sampling_rate", "number", "0.01", "Share of requests traced, 0..1.", unit="ratio"),
    Setting("wasm", "boolean", "off", "Enable WebAssembly filters."),
    Setting("wasm_filters_path", "string", None, "Directory of filters."),
    Setting("wasm_dynamic_module", "string", None, "Platform module file."),
    Setting("wasm_filters", "array", "bundled,user", "Bundled, user, names, or off."),
    Setting("request_debug", "boolean", "on", "Timing output on X-Kong-Request-Debug."),
    Setting("request_debug_token", "string", None, "Shared secret for X-Kong-Request-Debug-Token; random if empty."),
    Setting("debug_ssl_cert", "string", None, "Certificates of the debug listener (documented, Enterprise)."),
    Setting("debug_ssl_cert_key", "string", None, "Keys of the debug listener."),
    Setting("vault_env_prefix", "string", None, "Prefix of environment names for the env vault."),
    Setting("nginx_http_client_header_buffer_size", "size", "1k", "First buffer for the head of a request."),
    Setting(
        "nginx_http_large_client_header_buffers", "string", "4 8k", "Number and size of larger header buffers; over it 400/494."
    ),
    Setting("nginx_wasm_main_shm_kv", "string", None, "Size of a shared store for WebAssembly filters."),
    Setting(
        "privileged_worker",
        "boolean",
        None,
        "Old name of `dedicated_config_processing`.",
        alias_of="dedicated_config_processing",
        deprecated=True,
    ),
    Setting(
        "router_consistency",
        "enum",
        None,
        "Old name of `worker_consistency`.",
        enum=("strict", "eventual"),
        alias_of="worker_consistency",
        deprecated=True,
    ),
    Setting(
        "router_ranking",
        "enum",
        "kong",
        "Whether overlapping Routes rank as a real Kong computes it, or as its documentation says (traditional_compatible only).",
        enum=("kong", "documented"),
        ours=True,
    ),
    Setting("plugin_path", "array", None, "Directories in which plugins of your own are looked for.", ours=True),
    Setting(
        "worker_hang_timeout", "number", "10", "How long a worker may be silent before it is replaced.", unit="seconds", ours=True
    ),
    Setting(
        "admin_allow_remote_without_auth",
        "boolean",
        "off",
        "Whether the Admin API may listen beyond this machine though it asks for no authentication.",
        ours=True,
    ),
    Setting(
        "admin_auth_token",
        "array",
        None,
        "Tokens of which the Admin API asks for one, as `Authorization: Bearer <token>` or `Kong-Admin-Token: <token>`. "
        "Each has 8 characters or more.",
        secret=True,
        ours=True,
    ),
    Setting(
        "admin_client_ca",
        "array",
        None,
        "Authorities, as path or PEM: who speaks TLS with the Admin API must show a certificate that one of them has signed.",
        ours=True,
    ),
    Setting(
        "vaults_check_interval",
        "number",
        "60",
        "How often workers look whether secrets that their plugins got from vaults have changed.",
        unit="seconds",
        ours=True,
    ),
    Setting(
        "admin_hosts",
        "array",
        None,
        "Host names, besides those of this machine, under which the Admin API may be called.",
        ours=True,
    ),
    Setting(
        "explain_keep_count",
        "number",
        "10000",
        "How many records of requests `/explain` keeps, for each kind of its own: failed, refused, recovered, probes, samples; "
        "0 keeps none.",
        unit="records",
        ours=True,
    ),
    Setting("explain_keep_s", "number", "86400", "How long `/explain` keeps a record.", unit="seconds", ours=True),
    Setting(
        "explain_keep_size",
        "size",
        "64m",
        "How much memory all records of `/explain` take together; when it is full samples go first and failed requests last.",
        ours=True,
    ),
    Setting(
        "explain_sample_ratio",
        "number",
        "0.001",
        "Share of the requests that went well of which a record is kept too, 0..1.",
        unit="ratio",
        ours=True,
    ),
    Setting(
        "explain_headers",
        "enum",
        "off",
        "Whether answers to failed requests carry `Proxy-Status` and `X-Pylae-Fault`: never, to peers in `trusted_ips`, always.",
        enum=("off", "trusted", "on"),
        ours=True,
    ),
)

SETTINGS: Final[dict[str, Setting]] = {setting.name: setting for setting in _TABLE}
"""Every property by name, in Kong's order, ours last."""
