# SPDX-License-Identifier: Apache-2.0
"""Does the Admin API say where a request would go, and what another configuration would change?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.process import ControlProcess
from tests.admin.worker import ListeningWorker
from tests.support.admin import Admin, Answer
from tests.support.wait import until

Row = dict[str, Any]

SERVICE = "5f1d0a70-0d3a-4e0e-a2a2-1d5fbb2a4b7e"
ROUTE = "057f17ae-43fc-4fa8-b19a-06197d8222d6"
OTHER = "6b7c2c4e-9f0e-4f0c-8a35-1f9b7f1f7a10"
PLUGIN = "b0c0a1de-7a7e-4d8a-9c39-2d8d8d0c3a51"


def described(**more: Any) -> Row:
    return {"method": "GET", "host": "shop.test", "path": "/orders/7", **more}


def put_rows(admin: Admin) -> None:
    """A Service, a Route to it, and a plugin on that."""
    admin.put(f"/services/{SERVICE}", {"name": "backend", "host": "backend.test", "port": 8080, "path": "/v1"})
    admin.put(f"/routes/{ROUTE}", {"name": "orders", "paths": ["/orders"], "methods": ["GET"], "service": {"id": SERVICE}})
    admin.put(f"/plugins/{PLUGIN}", {"name": "key-auth", "route": {"id": ROUTE}})


class Recorded:
    """Records of requests, streamed as by a worker that served them."""

    count = 0

    def __init__(self, worker: ListeningWorker, admin: Admin) -> None:
        self._worker = worker
        self._admin = admin

    def request(self, path: str = "/orders/7", *, status: int = 200, kind: str = "sample", **more: Any) -> str:
        """Streams a record, waits until it is kept, and returns its id."""
        Recorded.count += 1
        id_ = f"{Recorded.count:032x}"
        request = {"method": "GET", "scheme": "http", "host": "shop.test", "path": path, "headers": [["Host", "shop.test"]]}
        record = {
            "status": status,
            "request": {**request, **more.pop("request", {})},
            "client": {"ip": "192.0.2.7", "peer": "192.0.2.7:4711", "is_trusted": False},
            "route": {"id": ROUTE, "name": "orders"},
            **more,
        }
        letter = {"sample": "S", "failed": "F", "refused": "R"}[kind]
        self._worker.stream("explain", f"{id_} {letter} {json.dumps(record)}".encode())
        until(lambda: self._admin.get("/explain?size=1")["data"][0]["request_id"] == id_, "the record")
        return id_


@pytest.fixture
def rows(admin: Admin) -> None:
    put_rows(admin)


@pytest.fixture
def recorded(control: ControlProcess, rows: None) -> Iterator[Recorded]:
    with ListeningWorker(control.prefix) as worker:
        yield Recorded(worker, control.admin)


def dry_run(admin: Admin, *changes: Row, size: int = 1) -> Row:
    answer = admin.call("POST", f"/explain/dry-run?size={size}", {"changes": list(changes)})
    assert answer.status == 200, answer.body
    found: Row = answer.json
    return found


def change(method: str, path: str, **body: Any) -> Row:
    return {"method": method, "path": path, **({"body": body} if body or method != "DELETE" else {})}


# === one described request ===


@pytest.mark.usefixtures("rows")
def test_a_described_request_is_told_where_it_would_go_and_why(admin: Admin) -> None:
    answer = admin.call("POST", "/explain/route", described())
    assert answer.status == 200
    told = answer.json
    assert told["route"] == {
        "id": ROUTE,
        "name": "orders",
        "why": [{"condition": "methods", "value": "GET"}, {"condition": "paths", "value": "/orders"}],
    }
    assert (told["service"]["name"], told["upstream"], told["upstream_path"]) == ("backend", None, "/v1/7")
    assert [(plugin["name"], plugin["scope"]) for plugin in told["plugins"]] == [("key-auth", "route")]
    assert (told["status"], told["fault"], told["unknown"]) == (None, None, [])
    by_url = {"url": "http://shop.test/orders/7", "method": "GET"}
    assert admin.call("POST", "/explain/route", by_url).json == told
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    of_form = admin.call("POST", "/explain/route", b"host=shop.test&path=/orders/7&port=8000&is_trusted=false", form)
    assert of_form.json["route"] == told["route"]


@pytest.mark.usefixtures("rows")
def test_a_request_without_a_route_is_told_what_is_missing(admin: Admin) -> None:
    told = admin.post("/explain/route", described(method="POST"))
    assert (told["route"], told["status"], told["fault"]) == (None, 404, "no_route")
    (near,) = (near for near in told["nearest"] if near["id"] == ROUTE)
    assert near["failed"] == [{"condition": "methods", "wanted": ["GET"], "got": "POST"}]


@pytest.mark.usefixtures("rows")
def test_what_is_not_known_is_left_open(admin: Admin) -> None:
    admin.put(f"/routes/{OTHER}", {"name": "inner", "paths": ["/orders"], "headers": {"x-inner": ["1"]}, "methods": ["GET"]})
    told = admin.post("/explain/route", described(headers={"X-Inner": None}))
    assert told["unknown"] == ["the Route `inner` might match: the value of the header `x-inner` is not known"]
    assert admin.post("/explain/route", described(headers={"X-Inner": "1"}))["route"]["name"] == "inner"
    assert admin.post("/explain/route", described(headers={"X-Inner": ["2", "3"]}))["route"]["name"] == "orders"
    admin.call("DELETE", f"/routes/{OTHER}")


@pytest.mark.usefixtures("rows")
def test_a_host_that_is_not_said_may_be_any(admin: Admin) -> None:
    admin.put(f"/routes/{OTHER}", {"name": "hosted", "paths": ["/orders"], "hosts": ["a.test"]})
    told = admin.post("/explain/route", {"path": "/orders"})
    assert told["unknown"] == ["the Route `hosted` might match: the host is not known"]
    assert admin.post("/explain/route", {"path": "/orders", "host": ""})["route"]["name"] == "orders"
    admin.call("DELETE", f"/routes/{OTHER}")


@pytest.mark.usefixtures("rows")
def test_a_consumer_is_named_by_id_or_username(admin: Admin) -> None:
    consumer = admin.put("/consumers/alice", {})
    plugin = admin.post("/plugins", {"name": "rate-limiting", "consumer": {"id": consumer["id"]}, "config": {"minute": 5}})
    for name in ("alice", consumer["id"]):
        told = admin.post("/explain/route", described(consumer_id=name))
        assert [plugin["name"] for plugin in told["plugins"]] == ["key-auth", "rate-limiting"]
    refused = admin.call("POST", "/explain/route", described(consumer_id="nobody"))
    assert (refused.status, refused.json["fields"]) == (400, {"consumer_id": "there is no such Consumer"})
    admin.call("DELETE", f"/plugins/{plugin['id']}")


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({}, {"path": "required field missing"}),
        ({"host": "a", "path": "b"}, {"path": "should start with: /"}),
        ({"host": "a", "path": "/", "nothing": 1}, {"nothing": "unknown field"}),
        ({"host": 1, "path": "/"}, {"host": "expected a string"}),
        ({"host": "a b", "path": "/"}, {"host": "expected a host, and perhaps a port"}),
        ({"host": "a", "path": "/../.."}, {"path": "the path leads above the root"}),
        ({"host": "a", "path": "/", "scheme": "ftp"}, {"scheme": "expected one of: http, https"}),
        ({"host": "a", "path": "/", "method": "A B"}, {"method": "expected a method, such as GET"}),
        ({"host": "a", "path": "/", "client_ip": "x"}, {"client_ip": "expected an IP address"}),
        ({"host": "a", "path": "/", "port": 0}, {"port": "value should be between 1 and 65535"}),
        ({"host": "a", "path": "/", "sni": 1}, {"sni": "expected a string"}),
        ({"host": "a", "path": "/", "is_trusted": "perhaps"}, {"is_trusted": "expected a boolean"}),
        ({"host": "a", "path": "/", "query": 1}, {"query": "expected a string, or a map of names and values"}),
        ({"host": "a", "path": "/?a", "query": "b"}, {"path": "cannot have a query together with `query`"}),
        ({"host": "a", "path": "/", "headers": [1]}, {"headers": "expected a map of names and values"}),
        ({"host": "a", "path": "/", "headers": {"a b": "1"}}, {"headers": {"a b": "expected the name of a header"}}),
        ({"url": "ftp://a/"}, {"url": "expected a URL, such as http://a.test/b"}),
        ({"url": "http://u:p@a/"}, {"url": "expected a URL, such as http://a.test/b"}),
        ({"url": "http://a/", "host": "b"}, {"host": "cannot be set together with `url`"}),
    ],
)
def test_what_is_no_request_is_refused_field_by_field(admin: Admin, values: Row, fields: Row) -> None:
    answer = admin.call("POST", "/explain/route", values)
    assert (answer.status, answer.json["code"], answer.json["fields"]) == (400, 2, fields)


def test_other_methods_and_bodies_are_refused(admin: Admin) -> None:
    for path in ("/explain/route", "/explain/dry-run"):
        assert admin.call("GET", path).status == 405
        assert admin.call("DELETE", path).status == 405
        text = {"Content-Type": "text/plain"}
        assert admin.call("POST", path, b"a", text).status == 415
    assert admin.call("POST", "/explain/dry-run").status == 400
    assert admin.call("POST", "/explain/dry-run?size=0", {"changes": []}).json["code"] == 9
    assert admin.call("POST", "/explain/dry-run?size=1001", {"changes": []}).json["code"] == 9


# === what another configuration would change ===


def test_a_change_of_no_effect_changes_nothing(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    found = dry_run(admin, change("PATCH", "/services/backend", tags=["a"]), change("PUT", "/consumers/bob"))
    assert found["changed"] == []
    assert found["considered"] == 1
    # Whoever bob is, key-auth might know him by now.
    assert [reason["reason"] for reason in found["unknown"]] == [
        "rows of consumers change, which the plugin `key-auth` may look at"
    ]
    found = dry_run(admin, change("PATCH", "/services/backend", tags=["a"]))
    assert (found["changed"], found["unchanged"], found["unknown"]) == ([], 1, [])


def test_another_upstream_is_told_and_its_status_is_unknown(admin: Admin, recorded: Recorded) -> None:
    id_ = recorded.request()
    (found,) = dry_run(admin, change("PATCH", "/services/backend", host="new.test", port=81))["changed"]
    assert found["request_id"] == id_
    assert (found["before"]["service"]["host"], found["after"]["service"]["host"]) == ("backend.test", "new.test")
    assert (found["before"]["status"], found["after"]["status"]) == (200, "unknown")
    assert found["why"] == ["the Service's host is new.test instead of backend.test", "the Service's port is 81 instead of 8080"]
    assert admin.get("/services/backend")["host"] == "backend.test"


def test_a_route_that_goes_leaves_404(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    (found,) = dry_run(admin, change("DELETE", f"/routes/{ROUTE}"))["changed"]
    assert (found["after"]["route"], found["after"]["status"]) == (None, 404)
    assert found["why"] == ["no Route matches any more, instead of `orders`"]
    (found,) = dry_run(admin, change("PATCH", "/routes/orders", methods=["POST"]))["changed"]
    assert found["why"] == ["no Route matches any more, instead of `orders`", "`orders` demands methods POST"]


def test_a_route_that_comes_takes_its_requests(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    made = change("POST", "/services/backend/routes", name="longer", paths=["/orders/7"], methods=["GET"])
    (found,) = dry_run(admin, made)["changed"]
    assert found["after"]["route"]["name"] == "longer"
    assert found["after"]["plugins"] == []
    assert found["why"][0] == "the Route is `longer` instead of `orders`"
    assert found["why"][-1] == "`orders` matches as well, and is outranked"


def test_a_route_for_https_alone_answers_426(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    (found,) = dry_run(admin, change("PATCH", "/routes/orders", protocols=["https"]))["changed"]
    assert found["after"]["status"] == 426
    recorded.request(client={"ip": "192.0.2.7"})
    assert dry_run(admin, change("PATCH", "/routes/orders", protocols=["https"]))["unknown"]


def test_plugins_that_come_go_or_change_are_told(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    come = change("POST", "/plugins", name="rate-limiting", config={"minute": 5})
    (found,) = dry_run(admin, come)["changed"]
    assert [plugin["name"] for plugin in found["after"]["plugins"]] == ["key-auth", "rate-limiting"]
    assert found["after"]["status"] == "unknown"
    (found,) = dry_run(admin, change("DELETE", f"/plugins/{PLUGIN}"))["changed"]
    assert found["why"] == [f"the plugin `key-auth` ({PLUGIN}) no longer applies"]
    (found,) = dry_run(admin, change("PATCH", f"/plugins/{PLUGIN}", config={"key_names": ["k"]}))["changed"]
    assert found["why"] == [f"the plugin `key-auth` ({PLUGIN}) has another configuration"]


def test_who_was_stopped_before_what_changes_is_stopped_alike(admin: Admin, recorded: Recorded) -> None:
    step = {"name": "key-auth", "id": PLUGIN, "phase": "access", "outcome": "answered", "status": 401}
    recorded.request(status=401, kind="refused", plugins=[step])
    (found,) = dry_run(admin, change("PATCH", "/services/backend", host="new.test"))["changed"]
    assert (found["before"]["status"], found["after"]["status"]) == (401, 401)
    (found,) = dry_run(admin, change("PATCH", f"/plugins/{PLUGIN}", config={"key_names": ["k"]}))["changed"]
    assert found["after"]["status"] == "unknown"


def test_targets_are_part_of_it(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    changes = [
        change("POST", "/upstreams", name="backend.test"),
        change("POST", "/upstreams/backend.test/targets", target="192.0.2.1:80"),
    ]
    (found,) = dry_run(admin, *changes)["changed"]
    assert found["why"] == ["the host is now that of the Upstream `backend.test`"]
    (found,) = dry_run(admin, changes[0])["changed"]
    assert "the gateway answers 503 by itself: no_healthy_target" in found["why"]


def test_timeouts_are_told_though_the_router_does_not_speak_of_them(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    (found,) = dry_run(admin, change("PATCH", "/services/backend", read_timeout=1))["changed"]
    assert found["why"] == ["the Service's read_timeout changes"]
    assert found["after"]["status"] == "unknown"


def test_what_a_record_withholds_is_not_guessed(admin: Admin, recorded: Recorded) -> None:
    id_ = recorded.request(request={"headers": [["X-Inner", None]]})
    made = change("POST", "/routes", name="inner", paths=["/orders"], headers={"x-inner": ["1"]}, methods=["GET"])
    found = dry_run(admin, made)
    assert found["unknown"] == [
        {"request_id": id_, "reason": "the Route `inner` might match: the value of the header `x-inner` is not known"}
    ]
    assert (found["changed"], found["unchanged"]) == ([], 0)


def test_what_was_withheld_and_is_decided_alike_leaves_nothing_open(admin: Admin, recorded: Recorded) -> None:
    admin.put(f"/routes/{OTHER}", {"name": "inner", "paths": ["/orders"], "headers": {"x-inner": ["1"]}, "methods": ["GET"]})
    version = admin.post("/explain/route", described())["config"]
    recorded.request(request={"headers": None}, config=version)
    # It was not the inner Route's then, and nothing of either Route changes.
    (found,) = dry_run(admin, change("PATCH", "/services/backend", host="new.test"))["changed"]
    assert found["why"] == ["the Service's host is new.test instead of backend.test"]
    assert dry_run(admin, change("PATCH", "/routes/inner", headers={"x-inner": ["2"]}))["unknown"]
    assert dry_run(admin, change("DELETE", "/routes/inner"))["unknown"] == []
    recorded.request(request={"headers": None}, config="another:1")
    assert dry_run(admin, change("PATCH", "/services/backend", host="new.test"))["unknown"]
    admin.call("DELETE", f"/routes/{OTHER}")


def test_a_request_that_never_reached_the_router_is_as_it_was(admin: Admin, recorded: Recorded) -> None:
    recorded.request(status=400, kind="refused", route=None, room="http", fault="bad_framing")
    assert dry_run(admin, change("DELETE", f"/routes/{ROUTE}"))["unchanged"] == 1


def test_the_newest_records_are_looked_at_and_no_more(admin: Admin, recorded: Recorded) -> None:
    made = [recorded.request() for _ in range(4)]
    found = dry_run(admin, change("DELETE", f"/routes/{ROUTE}"), size=3)
    assert [one["request_id"] for one in found["changed"]] == made[:0:-1]
    assert found["considered"] == 3


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ([change("PATCH", "/services/backend", port=70000)], 400, {"code": 2, "change": 1}),
        ([change("PATCH", "/services/backend"), change("POST", "/services", name="backend", host="a")], 409, {"change": 2}),
        ([change("PATCH", "/services/nobody", port=1)], 404, {"code": 6, "change": 1}),
        ([change("DELETE", "/services/backend")], 400, {"code": 4, "change": 1}),
        ([change("POST", "/config")], 404, {"message": "Not found", "change": 1}),
        ([change("POST", "/routes", paths=["~("], name="r")], 400, {"code": 2, "change": 1}),
    ],
)
def test_a_change_is_refused_as_the_admin_api_would(admin: Admin, changes: list[Row], status: int, told: Row) -> None:
    answer = admin.call("POST", "/explain/dry-run", {"changes": changes})
    assert answer.status == status, answer.body
    assert told.items() <= answer.json.items()


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ([], "expected an array of changes"),
        ({}, "expected an array of changes"),
        ([1], {"1": "expected a record"}),
        ([{"method": "GET", "path": "/a"}], {"1": {"method": "expected one of: POST, PUT, PATCH, DELETE"}}),
        ([{"method": "PUT", "path": "a"}], {"1": {"path": "expected the path of an entity, such as /services/a"}}),
        ([{"method": "PUT", "path": "//[?"}], {"1": {"path": "expected the path of an entity, such as /services/a"}}),
        ([{"method": "PUT", "path": "/a", "body": 1, "b": 2}], {"1": {"b": "unknown field", "body": "expected a record"}}),
        ([change("PUT", "/a")] * 1001, "expected at most 1000 changes"),
    ],
)
def test_what_are_no_changes_is_refused(admin: Admin, changes: Any, fields: Any) -> None:
    answer = admin.call("POST", "/explain/dry-run", {"changes": changes})
    assert (answer.status, answer.json["fields"]) == (400, {"changes": fields})


def test_nothing_of_it_stays_and_no_worker_hears_of_it(admin: Admin, recorded: Recorded, control: ControlProcess) -> None:
    recorded.request()
    before = admin.post("/explain/route", described())
    dry_run(admin, change("DELETE", f"/routes/{ROUTE}"), change("DELETE", f"/services/{SERVICE}"))
    assert admin.post("/explain/route", described()) == before
    with ListeningWorker(control.prefix, index=1) as worker:
        admin.patch("/services/backend", {"tags": ["seen"]})
        body = worker.told("delta")
        assert [entry[3]["tags"] for entry in body["changes"]] == [["seen"]], "the first thing it hears of is the real change"


# === a whole configuration ===

WHOLE = f"""
_format_version: "3.0"
services:
- id: {SERVICE}
  name: backend
  host: new.test
  port: 8080
  path: /v1
  routes:
  - id: {ROUTE}
    name: orders
    paths: [/orders]
    methods: [GET]
"""


def whole(admin: Admin, text: str, size: int = 1) -> Answer:
    return admin.call("POST", f"/explain/dry-run?size={size}", text.encode(), {"Content-Type": "application/yaml"})


def test_a_whole_configuration_takes_the_place_of_the_present_one(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    (found,) = whole(admin, WHOLE).json["changed"]
    assert found["why"] == [
        "the Service's host is new.test instead of backend.test",
        f"the plugin `key-auth` ({PLUGIN}) no longer applies",
    ]
    in_json = admin.call("POST", "/explain/dry-run?size=1", {"config": WHOLE})
    assert in_json.json["changed"] == [found]
    assert admin.get("/services/backend")["host"] == "backend.test"


def test_rows_without_an_id_are_those_of_their_name(admin: Admin, recorded: Recorded) -> None:
    recorded.request()
    text = WHOLE.replace(f"- id: {SERVICE}\n  name", "- name").replace(f"- id: {ROUTE}\n    name", "- name")
    (found,) = whole(admin, text.replace("new.test", "backend.test")).json["changed"]
    assert found["why"] == [f"the plugin `key-auth` ({PLUGIN}) no longer applies"]


def test_a_wrong_configuration_is_refused_as_a_declarative_one(admin: Admin) -> None:
    answer = whole(admin, WHOLE.replace("port: 8080", "port: 70000"))
    assert (answer.status, answer.json["code"]) == (400, 14)
    assert whole(admin, ": : :").status == 400
    assert whole(admin, "a").status == 400


def test_without_a_database_whole_configurations_are_looked_at_and_changes_refused(tmp_path: Path) -> None:
    with ControlProcess(tmp_path, {"database": "off"}) as process, ListeningWorker(process.prefix) as worker:
        old = WHOLE.replace("new.test", "backend.test")
        assert process.admin.call("POST", "/config", {"config": old}).status == 201
        Recorded(worker, process.admin).request()
        (found,) = whole(process.admin, WHOLE).json["changed"]
        assert found["why"] == ["the Service's host is new.test instead of backend.test"]
        assert whole(process.admin, old).json["unchanged"] == 1
        refused = process.admin.call("POST", "/explain/dry-run", {"changes": [change("DELETE", "/services/backend")]})
        assert (refused.status, refused.json["code"]) == (405, 12)
        assert process.admin.get("/services/backend")["host"] == "backend.test"


def test_nothing_of_it_was_our_fault(control: ControlProcess) -> None:
    assert "[error]" not in control.error_log
    assert "Traceback" not in control.error_log
