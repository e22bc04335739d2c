# SPDX-License-Identifier: Apache-2.0
"""Can everybody see what will make requests fail, before it does?"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.admin.entities import Row
from tests.admin.process import ControlProcess
from tests.admin.test_dns import report
from tests.admin.test_explain import Streamer
from tests.support.admin import Admin
from tests.support.wait import until

TOKEN = "a-token-of-sixteen"


def pair(name: str, days: float, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> tuple[str, str]:
    """A certificate in PEM that ends in so many days, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private


@pytest.fixture
def worker(control: ControlProcess) -> Iterator[Streamer]:
    with Streamer(control.prefix) as streamer:
        yield streamer


def notice(worker: Streamer, kind: str, key: str, **facts: Any) -> None:
    worker.stream("warnings", json.dumps({"kind": kind, "key": key, "facts": facts}).encode())


def warned(admin: Admin, kind: str, key: str) -> Row | None:
    return next((row for row in admin.get(f"/warnings?kind={kind}&size=1000")["data"] if row["key"] == key), None)


def wait_for(admin: Admin, kind: str, key: str) -> Row:
    until(lambda: warned(admin, kind, key) is not None, f"the warning {kind} {key}")
    found = warned(admin, kind, key)
    assert found is not None
    return found


def test_what_a_worker_notices_is_shown_on_both_apis_and_told_once(control: ControlProcess, worker: Streamer) -> None:
    facts = {"address": "10.0.0.1:8080", "idle_limit_ms": 5000, "our_idle_limit_ms": 60000}
    for _ in range(3):
        notice(worker, "idle_timeout", "10.0.0.1:8080", **facts)
    row = wait_for(control.admin, "idle_timeout", "10.0.0.1:8080")
    until(lambda: wait_for(control.admin, "idle_timeout", "10.0.0.1:8080")["count"] == 3, "all three")
    row = wait_for(control.admin, "idle_timeout", "10.0.0.1:8080")
    assert row["facts"] == facts
    assert row["text"].startswith("the server at `10.0.0.1:8080` closes connections that idled for 5000 ms")
    assert row["cure"][0] == "set upstream_keepalive_idle_timeout = 4, and reload"
    since = datetime.datetime.fromisoformat(row["since"])
    assert abs(since.timestamp() - time.time()) < 3600
    assert row["last_seen"] >= row["since"]
    assert row in control.status.get("/status/warnings?size=1000")["data"]
    assert control.status.call("GET", "/warnings").status == 404
    lines = [line for line in control.error_log.splitlines() if "`10.0.0.1:8080` closes connections" in line]
    assert len(lines) == 1
    assert "[warn]" in lines[0]


def test_warnings_come_in_pages(control: ControlProcess, worker: Streamer) -> None:
    keys = [f"\U0001f600{'x' * 150}-{number}" for number in range(5)]
    for key in reversed(keys):
        notice(
            worker, "response_header_size", key, route="orders", header="Set-Cookie", bytes=7000, limit_bytes=8192, whose="nginx"
        )
    wait_for(control.admin, "response_header_size", keys[0])
    for api, path in ((control.admin, "/warnings"), (control.admin, "/status/warnings"), (control.status, "/status/warnings")):
        seen, follow = [], f"{path}?kind=response_header_size&size=2"
        while follow is not None:
            assert follow.startswith(f"{path}?")
            page = api.get(follow)
            assert ("offset" in page) == (page["next"] is not None)
            seen.append([row["key"] for row in page["data"]])
            follow = page["next"]
        assert seen == [keys[:2], keys[2:4], keys[4:]]
    for query, code in (("size=0", 9), ("offset=x", 7), ("kind=", 11), ("kind=other", 11)):
        refused = control.admin.call("GET", f"/warnings?{query}")
        assert (refused.status, refused.json["code"]) == (400, code), query


def test_rubbish_ends_no_line(control: ControlProcess, worker: Streamer) -> None:
    worker.stream("warnings", b"\x00", b"{}", b'{"kind":"certificate","key":"forged"}', lost_count=2)
    notice(worker, "idle_timeout", "after-rubbish:80")
    wait_for(control.admin, "idle_timeout", "after-rubbish:80")
    assert control.error_log.count("a warning cannot be read") == 1
    assert warned(control.admin, "certificate", "forged") is None


@pytest.mark.parametrize("database", ["sqlite", "off"])
def test_a_certificate_that_ends_soon_is_warned_of_until_it_is_renewed(tmp_path: Path, database: str) -> None:
    near, far, over = pair("near.test", 5.5), pair("far.test", 300), pair("over.test", -2)
    ids = {name: f"00000000-0000-4000-8000-00000000000{number}" for number, name in enumerate(("near", "far", "over"))}
    rows = [{"id": ids[name], "cert": made[0], "key": made[1]} for name, made in (("near", near), ("far", far), ("over", over))]
    with ControlProcess(tmp_path, {"database": database}) as process:
        admin = process.admin

        def put(*given: Row) -> None:
            if database == "off":
                names = [{"name": "near.test", "certificate": {"id": ids["near"]}}] if given else []
                admin.post("/config", {"_format_version": "3.0", "certificates": list(given), "snis": names})
            else:
                for row in given:
                    admin.call("PUT", f"/certificates/{row['id']}", {**row, "snis": ["near.test"]} if row is rows[0] else row)

        put(*rows)
        row = wait_for(admin, "certificate", ids["near"])
        assert row["facts"]["subject"] == "CN=near.test"
        assert row["facts"]["snis"] == ["near.test"]
        assert 5 < row["facts"]["expires_in_s"] / 86400 < 6
        assert row["cure"] == [f"curl -X PATCH {admin_url(process)}/certificates/{ids['near']} -F cert=@cert.pem -F key=@key.pem"]
        assert "ended at" in wait_for(admin, "certificate", ids["over"])["text"]
        assert warned(admin, "certificate", ids["far"]) is None
        assert "BEGIN" not in process.error_log
        metrics = process.status.call("GET", "/metrics").body.decode()
        assert 'pylae_warning{kind="certificate"} 2' in metrics
        assert 'pylae_warning{kind="dns_stale"} 0' in metrics

        renewed = pair("near.test", 200)
        put({"id": ids["near"], "cert": renewed[0], "key": renewed[1]}, rows[1])
        until(lambda: warned(admin, "certificate", ids["near"]) is None, "the warning to end")
        if database == "sqlite":
            admin.call("DELETE", f"/certificates/{ids['over']}")
        until(lambda: warned(admin, "certificate", ids["over"]) is None, "the warning to end")


def admin_url(process: ControlProcess) -> str:
    return f"http://localhost:{process.admin_port}"


def test_certificates_that_were_there_before_are_looked_at(tmp_path: Path) -> None:
    certificate, key = pair("old.test", 3)
    with ControlProcess(tmp_path) as process:
        id_ = process.admin.post("/certificates", {"cert": certificate, "key": key})["id"]
        wait_for(process.admin, "certificate", id_)
        process.kill()
        process.restart()
        wait_for(process.admin, "certificate", id_)


def test_a_name_that_no_server_answers_for_is_warned_of(control: ControlProcess, worker: Streamer) -> None:
    now_s = time.time()
    worker.stream("dns", report("stale.test", "10.0.0.1", age_s=90, error="timeout", now_s=now_s))
    row = wait_for(control.admin, "dns_stale", "stale.test")
    assert row["facts"]["error"] == "timeout"
    assert row["cure"][0].startswith(f"curl {admin_url(control)}/dns/stale.test ")
    worker.stream("dns", report("stale.test", "10.0.0.1", now_s=now_s))
    until(lambda: warned(control.admin, "dns_stale", "stale.test") is None, "the warning to end")


def test_callers_who_give_up_first_are_warned_of(control: ControlProcess, worker: Streamer) -> None:
    service = {"id": "s-1", "name": "slow", "read_timeout_ms": 60_000, "retries": 5}
    for number in range(3):
        client = {"peer": f"10.9.9.{number}", "departed_after_ms": 30_000 + number}
        worker.record(status=499, fault="client_gone", side="client", client=client, service=service, attempts=[{}])
    row = wait_for(control.admin, "timeout_order", "before 057f17ae-43fc-4fa8-b19a-06197d8222d6 10.9.9.0/24")
    assert (row["facts"]["elapsed_ms"], row["facts"]["ours_ms"]) == (30_001, 360_000)


def test_failed_requests_are_counted(control: ControlProcess, worker: Streamer) -> None:
    service = {"id": None, "name": 'counted"\n'}
    made = [worker.record(service=service) for _ in range(3)]
    worker.record("sample", service=service)
    control.admin.get(f"/explain/{made[-1]}")
    for api in (control.admin, control.status):
        metrics = api.call("GET", "/metrics").body.decode()
        line = r'pylae_failed_requests_total{cause="connect_refused",side="upstream",service="counted\"\n"} 3'
        assert line in metrics.splitlines()
        assert "# TYPE pylae_explain_records_total counter" in metrics


def test_who_has_no_token_is_told_nothing_by_the_admin_api(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"admin_auth_token": TOKEN}) as process:
        for path in ("/warnings", "/status/warnings"):
            assert process.admin.call("GET", path).status == 401
        assert process.status.get("/status/warnings") == {"data": [], "next": None}
