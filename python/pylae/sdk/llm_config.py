# SPDX-License-Identifier: Apache-2.0
"""How does an administrator say which language model is asked, and how?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pylae.schema import Record, conditional, conditional_at_least_one_of, custom, field, kinds, mutually_required

WITHOUT_STATISTICS: Final = frozenset({("anthropic", "llm/v1/completions")})
"""Providers, each with the kind of question in whose answers they tell no statistics."""


def _judge_statistics(row: Mapping[str, Any]) -> str | None:
    """Some answers say nothing of what they cost."""
    logging, model, route_type = row["logging"] or {}, row["model"] or {}, row["route_type"]
    provider = model.get("provider")
    if logging.get("log_statistics") and (provider, route_type) in WITHOUT_STATISTICS:
        return f"{provider} does not support statistics when route_type is {route_type}"
    return None


class Auth(Record):
    """How the gateway proves itself to the model provider."""

    header_name: str | None = field(kinds.string(), referenceable=True, doc="Header the credential is sent in.")
    header_value: str | None = field(kinds.string(), referenceable=True, secret=True, doc="Credential sent in that header.")
    param_name: str | None = field(
        kinds.string(), referenceable=True, doc="Query argument or body field the credential is sent in."
    )
    param_value: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="Credential sent in that argument or field."
    )
    param_location: str | None = field(
        kinds.string(one_of=("query", "body")), doc="Whether `param_name` goes into the query or the body."
    )
    gcp_use_service_account: bool = field(kinds.boolean(), default=False, doc="Logs in to Google Cloud with a service account.")
    gcp_service_account_json: str | None = field(
        kinds.string(),
        referenceable=True,
        secret=True,
        encrypted=False,
        doc="JSON key of the service account; from the environment if unset.",
    )
    aws_access_key_id: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="AWS access key id; from the environment if unset."
    )
    aws_secret_access_key: str | None = field(
        kinds.string(), referenceable=True, secret=True, doc="AWS secret access key; from the environment if unset."
    )
    allow_override: bool = field(
        kinds.boolean(), default=False, doc="Keeps the client's own credential where the request carries one."
    )


class Gemini(Record):
    """Where Gemini runs on Vertex AI."""

    checks = (mutually_required("api_endpoint", "project_id", "location_id"),)

    api_endpoint: str | None = field(kinds.string(), doc="Host name of the regional Vertex AI endpoint.")
    project_id: str | None = field(kinds.string(), doc="Google Cloud project the model runs in.")
    location_id: str | None = field(kinds.string(), doc="Google Cloud location the model runs in.")


class Bedrock(Record):
    """Where the model runs on Amazon Bedrock."""

    aws_region: str | None = field(kinds.string(), doc="AWS region the model is called in.")


class Huggingface(Record):
    """How Hugging Face serves the model."""

    use_cache: bool | None = field(kinds.boolean(), doc="Lets Hugging Face answer from its cache.")
    wait_for_model: bool | None = field(kinds.boolean(), doc="Waits until the model is loaded instead of failing.")


class Options(Record):
    """Settings of the model."""

    max_tokens: int | None = field(kinds.integer(), unit="tokens", doc="Tokens an answer may have at most.")
    input_cost: float | None = field(
        kinds.number(gt=0), unit="money per million tokens", doc="Price of a million prompt tokens, for statistics."
    )
    output_cost: float | None = field(
        kinds.number(gt=0), unit="money per million tokens", doc="Price of a million answer tokens, for statistics."
    )
    temperature: float | None = field(
        kinds.number(between=(0, 5)), doc="How freely the model chooses words; low values make answers alike."
    )
    top_p: float | None = field(
        kinds.number(between=(0, 1)), doc="Share of probability among which the model chooses the next token."
    )
    top_k: int | None = field(
        kinds.integer(between=(0, 500)),
        unit="tokens",
        doc="Number of likeliest tokens among which the model chooses the next one.",
    )
    anthropic_version: str | None = field(kinds.string(), doc="Version of the API that Anthropic is told.")
    azure_instance: str | None = field(kinds.string(), doc="Name of the Azure OpenAI instance.")
    azure_api_version: str = field(kinds.string(), default="2023-05-15", doc="Version of the Azure OpenAI API.")
    azure_deployment_id: str | None = field(kinds.string(), doc="Name of the Azure OpenAI deployment.")
    llama2_format: str | None = field(
        kinds.string(one_of=("raw", "openai", "ollama")), doc="Format in which the Llama 2 server is spoken to."
    )
    mistral_format: str | None = field(
        kinds.string(one_of=("openai", "ollama")), doc="Format in which the Mistral server is spoken to."
    )
    upstream_url: str | None = field(kinds.string(rule="url"), doc="URL of the model, in place of the provider's own.")
    upstream_path: str | None = field(
        kinds.string(), deprecated="4.0", doc="Path the model is called at, in place of the provider's own."
    )
    gemini: Gemini | None = field(kinds.record(Gemini), required=False, doc="Where Gemini runs on Vertex AI.")
    bedrock: Bedrock | None = field(kinds.record(Bedrock), required=False, doc="Where the model runs on Amazon Bedrock.")
    huggingface: Huggingface | None = field(kinds.record(Huggingface), required=False, doc="How Hugging Face serves the model.")


class Model(Record):
    """Which model is called, and how."""

    provider: str = field(
        kinds.string(one_of=("openai", "azure", "anthropic", "cohere", "mistral", "llama2", "gemini", "bedrock", "huggingface")),
        required=True,
        doc="Provider whose API the model is called with.",
    )
    name: str | None = field(kinds.string(), doc="Name of the model; the client's choice if unset.")
    options: Options | None = field(kinds.record(Options), required=False, doc="Settings of the model.")


class Logging(Record):
    """What log plugins are told about calls of the model."""

    log_statistics: bool = field(
        kinds.boolean(), required=True, default=False, doc="Adds token counts, times and cost to log entries."
    )
    log_payloads: bool = field(
        kinds.boolean(), required=True, default=False, doc="Adds the bodies of request and answer to log entries."
    )


class Llm(Record):
    """The language model that is called, and how."""

    checks = (
        conditional(
            "model.provider",
            {"one_of": ("bedrock", "gemini")},
            "auth.allow_override",
            {"eq": False},
            then_error="bedrock and gemini only support auth.allow_override = false",
        ),
        mutually_required("auth.header_name", "auth.header_value"),
        mutually_required("auth.param_name", "auth.param_value", "auth.param_location"),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("llama2",)},
            ("model.options.llama2_format",),
            then_error="must set %s for llama2 provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("mistral",)},
            ("model.options.mistral_format",),
            then_error="must set %s for mistral provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("anthropic",)},
            ("model.options.anthropic_version",),
            then_error="must set %s for anthropic provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("azure",)},
            ("model.options.azure_instance",),
            then_error="must set %s for azure provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("azure",)},
            ("model.options.azure_api_version",),
            then_error="must set %s for azure provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("azure",)},
            ("model.options.azure_deployment_id",),
            then_error="must set %s for azure provider",
        ),
        conditional_at_least_one_of(
            "model.provider",
            {"one_of": ("llama2",)},
            ("model.options.upstream_url",),
            then_error="must set %s for self-hosted providers/models",
        ),
        custom("route_type", "model", "logging", rule=_judge_statistics),
    )

    route_type: str = field(
        kinds.string(one_of=("llm/v1/chat", "llm/v1/completions", "preserve")),
        required=True,
        doc="Kind of call: chat, completion, or as the client sends it.",
    )
    auth: Auth | None = field(kinds.record(Auth), required=False, doc="How the gateway proves itself to the model provider.")
    model: Model = field(kinds.record(Model), required=True, doc="Which model is called, and how.")
    logging: Logging = field(kinds.record(Logging), required=True, doc="What log plugins are told about calls of the model.")
