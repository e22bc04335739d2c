# SPDX-License-Identifier: Apache-2.0
"""By what do crawlers, and what else calls without a person, give themselves away in `User-Agent`?

Names that their operators publish. Matched as they are written, anywhere in the field.
"""

from __future__ import annotations

import re
from typing import Final

_SEARCH: Final = (
    *(
        "Googlebot",
        "AdsBot-Google",
        "Mediapartners-Google",
        "APIs-Google",
        "FeedFetcher-Google",
        "Google-Extended",
        "Google Web Preview",
    ),
    *(
        "bingbot",
        "BingPreview",
        "adidxbot",
        "msnbot",
        "MSNBot",
        "MSRBOT",
        "Yahoo! Slurp",
        "YahooSeeker",
        "DuckDuckBot",
        "Baiduspider",
    ),
    *("YandexBot", "YandexImages", "YandexMobileBot", "YandexAccessibilityBot", "Sogou", "Exabot", "ExaBot", "Yeti", "NaverBot"),
    *(
        "Applebot",
        "PetalBot",
        "SeznamBot",
        "Qwantify",
        "MojeekBot",
        "coccoc",
        "Teoma",
        "Ask Jeeves",
        "Gigabot",
        "gonzo1",
        "ia_archiver",
    ),
    *(
        "heritrix",
        "archive.org_bot",
        "CCBot",
        "Bytespider",
        "360Spider",
        "HaosouSpider",
        "YisouSpider",
        "YoudaoBot",
        "Mail.RU_Bot",
    ),
    *(
        "StackRambler",
        "istellabot",
        "Speedy Spider",
        "yacybot",
        "YodaoBot",
        "Plukkie",
        "Findxbot",
        "WebCrawler",
        "Lycos",
        "Nutch",
    ),
)
_ANSWERING: Final = (
    *(
        "GPTBot",
        "ChatGPT-User",
        "OAI-SearchBot",
        "ClaudeBot",
        "Claude-Web",
        "anthropic-ai",
        "PerplexityBot",
        "Amazonbot",
        "cohere-ai",
    ),
    *("Meta-ExternalAgent", "meta-externalagent", "Diffbot", "ImagesiftBot", "Omgilibot", "omgili", "YouBot", "Timpibot"),
)
_SHARING: Final = (
    *("facebookexternalhit", "Facebot", "Twitterbot", "LinkedInBot", "Pinterest", "Slackbot", "Slack-ImgProxy", "Discordbot"),
    *(
        "TelegramBot",
        "WhatsApp",
        "redditbot",
        "Embedly",
        "Iframely",
        "flipboard",
        "Tumblr",
        "vkShare",
        "W3C_Validator",
        "W3C-checklink",
    ),
    *("Quora Link Preview", "SkypeUriPreview", "Google-Structured-Data-Testing-Tool", "Bitlybot", "bitlybot"),
)
_MEASURING: Final = (
    *(
        "AhrefsBot",
        "SemrushBot",
        "MJ12bot",
        "DotBot",
        "dotbot",
        "rogerbot",
        "BLEXBot",
        "SiteAuditBot",
        "Screaming Frog",
        "SEOkicks",
    ),
    *(
        "spbot",
        "OpenLinkProfiler",
        "linkdexbot",
        "MegaIndex",
        "serpstatbot",
        "DataForSeoBot",
        "Barkrowler",
        "netEstate",
        "Netcraft",
    ),
    *("Pingdom", "UptimeRobot", "StatusCake", "Site24x7", "NewRelicPinger", "BUbiNG", "CensysInspect", "Nmap Scripting Engine"),
    *(
        "masscan",
        "zgrab",
        "Nikto",
        "sqlmap",
        "DirBuster",
        "WPScan",
        "Scrapy",
        "HTTrack",
        "PhantomJS",
        "HeadlessChrome",
        "SimplePie",
    ),
    *(
        "Feedly",
        "FeedBurner",
        "NewsBlur",
        "Superfeedr",
        "magpie-crawler",
        "TurnitinBot",
        "CopyrightCheck",
        "grub-client",
        "larbin",
    ),
)
_SHAPES: Final = (
    # What has no name here and says what it is.
    r"\+https?://[^ ;)]*(?:bot|crawl|spider)",
    r"\b[\w.-]*(?:[Cc]rawler|[Ss]pider)(?:/|;|\b)",
    r"\b[A-Z][\w.-]*[Bb]ot/\d",
)

CRAWLERS: Final = re.compile("|".join((*(re.escape(name) for name in (*_SEARCH, *_ANSWERING, *_SHARING, *_MEASURING)), *_SHAPES)))
"""Matches the field of such a client."""
