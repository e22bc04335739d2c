# SPDX-License-Identifier: Apache-2.0
"""Whom does bot-detection refuse?"""

from __future__ import annotations

import pytest

from pylae.plugins.bot_detection.plugin import BotDetection
from pylae.sdk import SchemaViolation
from pylae.sdk.testing import Scene, validated

PEOPLE = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (Linux; Android 14; CUBOT X90) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Mobile Safari/537.36",
    "curl/8.11.0",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "helloworld",
    "robotics-client",
    "",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Twitterbot/1.0",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; NobodyKnowsThisBot/1.0; +https://example.com/bot)",
    "some-new-crawler/0.1",
)


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_pass(agent: str) -> None:
    with Scene(BotDetection, {}) as scene:
        assert scene.send(headers={"User-Agent": agent}).status == 200


@pytest.mark.parametrize("agent", CRAWLERS)
def test_crawlers_are_refused(agent: str) -> None:
    with Scene(BotDetection, {}) as scene:
        outcome = scene.send(headers={"User-Agent": agent})
    assert (outcome.status, outcome.json()["message"]) == (403, "Forbidden")


def test_who_says_nothing_passes() -> None:
    with Scene(BotDetection, {"deny": [".*"]}) as scene:
        assert scene.send().status == 200


def test_two_names_are_refused() -> None:
    with Scene(BotDetection, {}) as scene:
        outcome = scene.send(headers={"User-Agent": ["curl/8", "Googlebot/2.1"]})
    assert (outcome.status, outcome.json()["message"]) == (400, "Only one User-Agent header allowed")


def test_allow_comes_before_deny_and_deny_before_the_list() -> None:
    with Scene(BotDetection, {"allow": ["Googlebot", r"^curl/\d"], "deny": ["curl", r"\bwget\b"]}) as scene:
        for agent, status in (
            ("Googlebot/2.1", 200),
            ("curl/8", 200),
            ("my curl", 403),
            ("wget", 403),
            ("bingbot/2", 403),
            ("x", 200),
        ):
            assert [scene.send(headers={"User-Agent": agent}).status for _ in range(2)] == [status] * 2, agent


@pytest.mark.parametrize("agent", ["\udcff\udc00", "x" * 100_000, "a" * 5_000 + "Googlebot", "\x7f"])
def test_strange_names_do_no_harm(agent: str) -> None:
    with Scene(BotDetection, {}) as scene:
        assert scene.send(headers={"User-Agent": agent}).status == 200
        for number in range(2_000):
            scene.config.lets_in(f"{agent}{number}"[-50:])
        assert len(scene.config._verdicts) <= 1_024


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SchemaViolation):
        validated(BotDetection, {"deny": ["("]})
