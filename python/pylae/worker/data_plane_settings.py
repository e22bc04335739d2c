# SPDX-License-Identifier: Apache-2.0
"""What does the data plane need to know of the settings? Every field of `crates/pylae-core/src/config.rs`, with its value."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any, Final

from pylae import __version__
from pylae.pem import as_path
from pylae.settings import Settings, parse_size

FEWEST_CONNECTIONS: Final = 1024
MOST_CONNECTIONS: Final = 16384

# nginx's defaults, where Kong says nothing.
SILENCE_S: Final = 60.0
KEEPALIVE_S: Final = 75.0

# Longer times are the same to everybody who waits.
FOREVER_S: Final = 1e9

# Where Debian, Red Hat, SUSE and Alpine keep the certificates they trust.
PLATFORM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def data_plane_settings(settings: Settings) -> dict[str, Any]:
    """The settings under the data plane's names, sizes in bytes and times in milliseconds."""
    prefix = Path(settings.prefix)
    access_log = settings.log_path("proxy_access_log")
    return {
        "version": __version__,
        "prefix": str(prefix),
        "log_level": settings.log_level,
        "access_log": None if access_log is None else str(access_log),
        "error_log": str(settings.log_path("proxy_error_log") or os.devnull),
        "failures_log": str(prefix / "logs" / "failures.jsonl"),
        "utc_offset_s": time.localtime().tm_gmtoff,
        "headers": sorted(settings.enabled_headers),
        "request_id_upstream": "x-kong-request-id" in settings.enabled_headers_upstream,
        "trusted_ips": settings.trusted_ips,
        "real_ip_header": settings.nginx_proxy_real_ip_header,
        "real_ip_recursive": settings.nginx_proxy_real_ip_recursive == "on",
        "port_maps": list(settings.published_ports.items()),
        "client_max_body_size_bytes": settings.client_max_body_size_bytes,
        "client_body_buffer_size_bytes": settings.client_body_buffer_size_bytes,
        "large_client_header_buffers": _buffers(settings.nginx_http_large_client_header_buffers),
        "client_header_timeout_ms": _duration_ms(settings, "nginx_http_client_header_timeout", SILENCE_S),
        "client_body_timeout_ms": _duration_ms(settings, "nginx_http_client_body_timeout", SILENCE_S),
        "send_timeout_ms": _duration_ms(settings, "nginx_http_send_timeout", SILENCE_S),
        "client_keepalive_timeout_ms": _duration_ms(settings, "nginx_http_keepalive_timeout", KEEPALIVE_S),
        "client_keepalive_requests": int(settings.nginx_http_keepalive_requests),
        "worker_connections": _connections(settings.nginx_events_worker_connections),
        "upstream_keepalive_pool_size": settings.upstream_keepalive_pool_size,
        "upstream_keepalive_max_requests": settings.upstream_keepalive_max_requests,
        "upstream_keepalive_idle_timeout_ms": int(settings.upstream_keepalive_idle_timeout * 1000),
        "error_default_type": settings.error_default_type,
        "ssl_certificates": _certificates(settings, prefix),
        "trusted_certificates": trusted_certificates(settings.lua_ssl_trusted_certificate),
        "verify_upstream": False,
        "dns": _dns(settings),
        "allow_debug_header": settings.allow_debug_header,
        "drain_timeout_ms": int(settings.drain_timeout_s * 1000),
        "router_flavor": settings.router_flavor,
        "router_ranking": settings.router_ranking,
        "explain": {
            "sample_ratio": settings.explain_sample_ratio,
            "headers": settings.explain_headers,
            "probe_key": _probe_key(prefix / "probe.key"),
        },
    }


def _dns(settings: Settings) -> dict[str, Any]:
    """How names are looked up; the client of `new_dns_client` has settings and rules of its own."""
    if settings.new_dns_client:
        families = [text.upper() for text in settings.resolver_family]
        return {
            "servers": settings.resolver_address,
            "hosts_file": settings.resolver_hosts_file,
            "resolv_conf": settings.dns_resolv_conf,
            "order": [kind for kind in ("SRV", "A", "AAAA") if kind in families],
            "srv_of_services_only": True,
            "valid_ttl_ms": _ms(settings.resolver_valid_ttl),
            "stale_ttl_ms": _ms(settings.resolver_stale_ttl),
            "not_found_ttl_ms": _ms(settings.resolver_error_ttl),
            "error_ttl_ms": _ms(settings.resolver_error_ttl),
            "cache_size": int(settings.resolver_lru_cache_size),
            "no_sync": False,
        }
    return {
        "servers": settings.dns_resolver,
        "hosts_file": settings.dns_hostsfile,
        "resolv_conf": settings.dns_resolv_conf,
        "order": settings.dns_order,
        "srv_of_services_only": False,
        "valid_ttl_ms": _ms(settings.dns_valid_ttl),
        "stale_ttl_ms": _ms(settings.dns_stale_ttl),
        "not_found_ttl_ms": _ms(settings.dns_not_found_ttl),
        "error_ttl_ms": _ms(settings.dns_error_ttl),
        "cache_size": int(settings.dns_cache_size),
        "no_sync": settings.dns_no_sync,
    }


def _probe_key(path: Path) -> str:
    """The hex that the supervisor wrote there; without it no request is taken for a probe."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(min(seconds, FOREVER_S) * 1000)


def _duration_ms(settings: Settings, name: str, default_s: float) -> int:
    return int((settings.duration_s(name) if name in settings.directives else default_s) * 1000)


def trusted_certificates(names: list[str]) -> list[str]:
    """PEM bundles; `system` is the platform's, where it has one."""
    platform = next((path for path in PLATFORM_BUNDLES if Path(path).is_file()), None)
    return [path for name in names if (path := platform if name == "system" else name) is not None]


def _buffers(text: str) -> tuple[int, int]:
    """`4 8k`: how many, of how many bytes."""
    count, size = text.split()
    return int(count), parse_size(size)


def _connections(text: str) -> int:
    """As many as there may be open files, within Kong's bounds."""
    if text != "auto":
        return int(text)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else soft
    return max(FEWEST_CONNECTIONS, min(allowed, MOST_CONNECTIONS))


def _certificates(settings: Settings, prefix: Path) -> list[tuple[str, str]]:
    """Files of certificates and keys; the self-signed one the supervisor made, when none were given."""
    if settings.ssl_cert:
        return [(as_path(cert), as_path(key)) for cert, key in zip(settings.ssl_cert, settings.ssl_cert_key, strict=True)]
    return [(str(prefix / "ssl" / "kong-default.crt"), str(prefix / "ssl" / "kong-default.key"))]
