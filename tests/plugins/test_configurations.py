# SPDX-License-Identifier: Apache-2.0
"""Do the rules that a plugin's configuration has of its own say what Kong's say?"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pylae import entities
from pylae.errors import SchemaViolation
from pylae.sdk import loader

PLUGINS = loader.load(["bundled"])


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    entities.enable_plugins(PLUGINS)
    yield
    # Whatever a test said of the database holds for the whole process.
    entities.enable_plugins(PLUGINS)


def stored(name: str, config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The configuration that is kept."""
    kept: dict[str, Any] = entities.schema("plugins").insert({"name": name, "config": config, **fields})["config"]
    return kept


def refusal(name: str, config: dict[str, Any], **fields: Any) -> Any:
    """What is said of a configuration that is not kept."""
    with pytest.raises(SchemaViolation) as caught:
        entities.schema("plugins").insert({"name": name, "config": config, **fields})
    return caught.value.fields


ACME = {"account_email": "a@b.test", "tos_accepted": True}
LLM = {"route_type": "llm/v1/chat", "model": {"provider": "openai", "name": "m"}}


@pytest.mark.parametrize(
    ("name", "config", "error"),
    [
        ("acme", {**ACME, "domains": ["a*b*.test"]}, {"domains": ["invalid wildcard: must have at most one wildcard"]}),
        (
            "acme",
            {**ACME, "domains": ["a.*.test"]},
            {"domains": ["invalid wildcard: must be placed at leftmost or rightmost label"]},
        ),
        (
            "acme",
            {**ACME, "storage_config": {"redis": {"extra_options": {"namespace": "kong_acme:mine"}}}},
            {
                "storage_config": {
                    "redis": {"extra_options": {"namespace": "namespace can't be prefixed with reserved word: kong_acme"}}
                }
            },
        ),
        (
            "ai-proxy",
            {
                "route_type": "llm/v1/completions",
                "model": {"provider": "anthropic", "name": "m", "options": {"anthropic_version": "1"}},
                "logging": {"log_statistics": True},
            },
            {"@entity": ["anthropic does not support statistics when route_type is llm/v1/completions"]},
        ),
        (
            "ai-proxy",
            {**LLM, "auth": {}, "model": {"provider": "gemini", "options": {"gemini": {"api_endpoint": "e"}}}},
            {
                "model": {
                    "options": {
                        "gemini": {
                            "@entity": ["all or none of these fields must be set: 'api_endpoint', 'project_id', 'location_id'"]
                        }
                    }
                }
            },
        ),
        ("cors", {"origins": ["*", "(x"]}, {"origins": [None, "'(x' is not a valid regex"]}),
        ("bot-detection", {"allow": ["(x"]}, {"allow": ["not a valid regex: (x"]}),
        (
            "datadog",
            {"metrics": [{"name": "latency", "stat_type": "timer", "tags": ["wrong:"]}]},
            {"metrics": [{"tags": ["invalid value: wrong:"]}]},
        ),
        ("file-log", {"path": "a b*"}, {"path": "not a valid filename"}),
        ("request-termination", {"message": "m", "body": "b"}, "message cannot be used with content_type or body"),
        (
            "response-ratelimiting",
            {"limits": {"video": {"second": 2, "year": 1}}},
            {"limits": "the limit for year(1.0) cannot be lower than the limit for second(2.0)"},
        ),
        ("statsd", {"allow_status_codes": ["200"]}, {"allow_status_codes": ["invalid value: 200"]}),
        (
            "zipkin",
            {"static_tags": [{"name": "lc", "value": "v"}]},
            {
                "static_tags": [
                    {
                        "name": "must not be one of: error, http.method, http.path, http.status_code, kong.balancer.state, "
                        "kong.balancer.try, kong.consumer, kong.credential, kong.node.id, kong.route, kong.service, lc, "
                        "peer.hostname"
                    }
                ]
            },
        ),
    ],
)
def test_a_wrong_configuration_is_refused(name: str, config: dict[str, Any], error: Any) -> None:
    assert refusal(name, config) == {"config": error}


def test_a_proxy_of_lambda_is_spoken_to_without_tls() -> None:
    assert refusal("aws-lambda", {"proxy_url": "https://proxy.test"}) == {"@entity": ["proxy_url scheme must be http"]}
    assert stored("aws-lambda", {"proxy_url": "http://proxy.test"})["proxy_url"] == "http://proxy.test"


def test_the_transformers_speak_chat_only() -> None:
    llm = {**LLM, "route_type": "llm/v1/completions"}
    for name in ("ai-request-transformer", "ai-response-transformer"):
        assert refusal(name, {"prompt": "p", "llm": llm}) == {
            "@entity": ["'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins"],
            "config": {"llm": {"route_type": "value must be llm/v1/chat"}},
        }
        assert stored(name, {"prompt": "p", "llm": LLM})["llm"]["model"]["provider"] == "openai"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"cookie_lifetime": 5}, {"rolling_timeout": 5}),
        ({"cookie_idletime": 5}, {"idling_timeout": 5}),
        ({"cookie_idletime": None}, {"idling_timeout": 0}),
        ({"cookie_renew": 5}, {}),
        ({"cookie_discard": 5}, {"stale_ttl": 5}),
        ({"cookie_samesite": "off"}, {"cookie_same_site": "Lax"}),
        ({"cookie_samesite": "Strict"}, {"cookie_same_site": "Strict"}),
        ({"cookie_httponly": False}, {"cookie_http_only": False}),
        ({"cookie_persistent": True}, {"remember": True}),
    ],
)
def test_old_names_of_session_still_count(old: dict[str, Any], new: dict[str, Any]) -> None:
    config = stored("session", old)
    assert config == {**stored("session", {}), **new}


def test_old_names_of_acme_s_redis_still_count_and_are_shown() -> None:
    schema = entities.schema("plugins")
    old = {"auth": "secret", "ssl_server_name": "redis.test", "namespace": "n", "scan_count": 3}
    row = schema.insert({"name": "acme", "config": {**ACME, "storage_config": {"redis": old}}})
    redis = row["config"]["storage_config"]["redis"]
    assert (redis["password"], redis["server_name"]) == ("secret", "redis.test")
    assert redis["extra_options"] == {"namespace": "n", "scan_count": 3}
    assert schema.present(row)["config"]["storage_config"]["redis"].items() >= old.items()


def test_a_plugin_may_be_put_where_kong_lets_it() -> None:
    route = {"id": "11111111-1111-4111-8111-111111111111"}
    assert refusal("acme", ACME, route=route) == {"route": "value must be null"}
    assert entities.schema("plugins").insert({"name": "cors", "route": route})["route"] == route


def test_the_secret_of_session_is_another_one_in_each_process_and_never_empty() -> None:
    code = "from pylae.plugins.session.config import Config; print(Config.fields['secret'].default)"
    processes = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    secrets = [stored("session", {})["secret"], *(process.stdout.strip() for process in processes)]
    assert len(set(secrets)) == 3
    assert all(len(base64.b64decode(secret, validate=True)) == 32 for secret in secrets)
    # Within one process all take the same: a cookie that one plugin signed is good for the next request.
    assert stored("session", {})["secret"] == secrets[0]


def test_oauth2_makes_a_provision_key() -> None:
    first, second = (stored("oauth2", {"enable_implicit_grant": True})["provision_key"] for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second


def test_headers_of_proxy_cache_may_be_told_one_by_one() -> None:
    headers = stored("proxy-cache", {"strategy": "memory", "response_headers": {"X-Cache-Key": False}})["response_headers"]
    assert headers == {"age": True, "X-Cache-Status": True, "X-Cache-Key": False}


def test_what_needs_a_database_is_refused_without_one() -> None:
    entities.enable_plugins(PLUGINS, has_database=False)
    assert refusal("acme", {**ACME, "storage": "kong"}) == {"@entity": ['"kong" storage can\'t be used with dbless mode']}
    assert refusal("rate-limiting", {"minute": 1, "policy": "cluster"}) == {"config": {"policy": "expected one of: local, redis"}}
    assert stored("acme", ACME)["storage"] == "shm"
    assert list(stored("rate-limiting", {"minute": 1})) == list(PLUGINS["rate-limiting"].Config.fields)
