# SPDX-License-Identifier: Apache-2.0
"""Is a URL read as a client would send it, and are its headers held against the limits they meet?"""

from __future__ import annotations

import pytest

from pylae.doctor.configured import CannotLook
from pylae.doctor.margins import judge_headers
from pylae.doctor.reports import Report
from pylae.doctor.requests import header_of, request_of

OURS = (4, 8192)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://shop.test/orders?a=b", "shop.test", "/orders?a=b"),
        ("http://shop.test:8000", "shop.test:8000", "/"),
        ("http://shop.test:80/x", "shop.test", "/x"),
        ("shop.test/a b", "shop.test", "/a%20b"),
        ("http://[::1]:8000/%2F", "[::1]:8000", "/%2F"),
        ("http://SHOP.test/é\r\nX: y", "shop.test", "/%C3%A9X:%20y"),
    ],
)
def test_a_url_is_sent_as_clients_send_it(url: str, authority: str, path: str) -> None:
    request = request_of(url)
    assert (request.authority, request.path, request.method) == (authority, path, "GET")


def test_a_host_header_of_the_user_wins() -> None:
    request = request_of("http://10.0.0.1/x", [("host", "shop.test"), ("A", "b")])
    assert (request.authority, request.host, list(request.headers)) == ("shop.test", "10.0.0.1", [("A", "b")])


def test_a_body_makes_it_a_post_unless_a_method_is_given() -> None:
    assert request_of("http://x.test", body=b"a").method == "POST"
    assert request_of("http://x.test", body=b"a", method="PUT").method == "PUT"


@pytest.mark.parametrize("url", ["", "http://", "ftp://x.test", "http://x.test:port", "http://[x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(CannotLook):
        request_of(url)


@pytest.mark.parametrize("text", ["", "A", ": b", "A B: c", "A: b\r\nC: d", "A: b\0"])
def test_what_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(CannotLook):
        header_of(text)


def found(header_bytes: int) -> dict[str, bool]:
    """Causes of what is found for a request with a Cookie of this size, and whether they break it now."""
    report = Report("")
    judge_headers(report, request_of("http://x.test/", [("Cookie", "c" * header_bytes)]), OURS)
    assert "ccc" not in str([finding.document() for finding in report.findings])
    return {finding.cause: finding.is_broken for finding in report.findings}


def test_headers_near_a_limit_are_named_without_their_value() -> None:
    assert found(1000) == {}
    assert found(7000) == {"request_header_too_large": False, "header_too_large_behind": False}
    assert found(9000) == {"request_header_too_large": True, "header_too_large_behind": False}
