# SPDX-License-Identifier: Apache-2.0
"""Is a Certificate found and written by the names that it is shown for?"""

from __future__ import annotations

import pytest

from tests.admin.entities import Maker, Row, number, own_fields
from tests.support.admin import Admin

UNKNOWN = 404, {"message": "SNI not found"}


@pytest.fixture
def maker(admin: Admin) -> Maker:
    return Maker(admin)


def names(count: int) -> list[str]:
    return sorted(f"name-{number():06}.test" for _ in range(count))


def test_names_are_made_with_the_certificate_and_shown(admin: Admin, maker: Maker) -> None:
    first, second = names(2)
    made = maker.row("certificates", snis=[second, first])
    assert made["snis"] == [first, second]
    assert admin.get(f"/snis/{first}")["certificate"] == {"id": made["id"]}
    for path in (f"/certificates/{made['id']}", f"/certificates/{first}", f"/certificates/{second}"):
        assert admin.get(path) == made
    assert made in admin.get("/certificates?size=1000")["data"]
    assert {sni["name"] for sni in admin.get(f"/certificates/{first}/snis")["data"]} == {first, second}
    assert maker.row("certificates")["snis"] == []


def test_names_come_from_forms_too(admin: Admin) -> None:
    from urllib.parse import urlencode

    first, second = names(2)
    body = urlencode([*own_fields("certificates").items(), ("snis[]", first), ("snis[]", second)]).encode()
    answer = admin.call("POST", "/certificates", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status, answer.json["snis"]) == (201, [first, second])


def test_a_patch_makes_and_removes_names(admin: Admin, maker: Maker) -> None:
    first, second, third = names(3)
    made = maker.row("certificates", snis=[first, second])
    kept = admin.get(f"/snis/{second}")
    patched = admin.patch(f"/certificates/{first}", {"snis": [second, third]})
    assert (patched["id"], patched["snis"]) == (made["id"], [second, third])
    assert admin.call("GET", f"/snis/{first}").status == 404
    assert admin.get(f"/snis/{second}") == kept
    assert admin.patch(f"/certificates/{made['id']}", {"tags": ["t"]})["snis"] == [second, third]
    assert admin.patch(f"/certificates/{made['id']}", {"snis": []})["snis"] == []


def test_put_by_a_name_makes_or_replaces(admin: Admin, maker: Maker) -> None:
    first, second = names(2)
    made = admin.put(f"/certificates/{first}", own_fields("certificates"))
    assert made["snis"] == [first]
    again = admin.put(f"/certificates/{first}", {**own_fields("certificates"), "tags": ["t"]})
    assert (again["id"], again["snis"], again["tags"]) == (made["id"], [first], ["t"])
    both = admin.put(f"/certificates/{first}", {**own_fields("certificates"), "snis": [first, second]})
    assert (both["id"], both["snis"], both["tags"]) == (made["id"], [first, second], None)
    # By id, what is not said of names leaves them as they are: clients manage them one by one.
    assert admin.put(f"/certificates/{made['id']}", own_fields("certificates"))["snis"] == [first, second]


def test_a_name_nobody_has(admin: Admin) -> None:
    for method, path in (
        ("GET", "/certificates/nobody.test"),
        ("PATCH", "/certificates/nobody.test"),
        ("DELETE", "/certificates/nobody.test"),
        ("GET", "/certificates/nobody.test/snis"),
        ("POST", "/certificates/nobody.test/snis"),
    ):
        answer = admin.call(method, path, {"name": "x.test"} if method == "POST" else {})
        assert (answer.status, answer.json) == UNKNOWN, method


def test_a_name_of_another_is_refused_whole(admin: Admin, maker: Maker) -> None:
    taken, free = names(2)
    owner = maker.row("certificates", snis=[taken])
    reason = f"{taken} already associated with existing certificate '{owner['id']}'"
    count = len(admin.get("/certificates?size=1000")["data"])
    body: Row = {**own_fields("certificates"), "snis": [free, taken]}
    for method, path in (("POST", "/certificates"), ("PUT", f"/certificates/{free}")):
        answer = admin.call(method, path, body)
        assert (answer.status, answer.json["code"], answer.json["fields"]) == (400, 2, {"snis": reason}), answer.body
        assert answer.json["message"] == f"schema violation (snis: {reason})"
    other = maker.row("certificates")
    assert admin.call("PATCH", f"/certificates/{other['id']}", {"snis": [taken]}).json["fields"] == {"snis": reason}
    assert len(admin.get("/certificates?size=1000")["data"]) == count + 1
    assert admin.call("GET", f"/snis/{free}").status == 404
    twice = admin.call("POST", "/certificates", {**own_fields("certificates"), "snis": [free, free]})
    assert (twice.status, twice.json["fields"]) == (400, {"snis": f"{free} is duplicated"})
    assert admin.call("POST", "/certificates", {**own_fields("certificates"), "snis": ["a b"]}).status == 400
    assert admin.call("POST", "/certificates", {**own_fields("certificates"), "snis": "x"}).status == 400
    direct = admin.call("POST", "/snis", {"name": taken, "certificate": {"id": other["id"]}})
    assert (direct.status, direct.json["message"]) == (409, f"UNIQUE violation detected on '{{name=\"{taken}\"}}'")


def test_a_certificate_takes_its_names_along(admin: Admin, maker: Maker) -> None:
    first, second = names(2)
    made = maker.row("certificates", snis=[first, second])
    service = maker.row("services", client_certificate={"id": made["id"]})
    refused = admin.call("DELETE", f"/certificates/{first}")
    assert (refused.status, refused.json["code"]) == (400, 4)
    assert refused.json["message"] == "an existing 'services' entity references this 'certificates' entity"
    assert admin.get(f"/certificates/{made['id']}")["snis"] == [first, second]
    admin.delete(f"/services/{service['id']}")
    admin.delete(f"/certificates/{second}")
    assert admin.call("GET", f"/certificates/{made['id']}").status == 404
    assert admin.call("GET", f"/snis/{first}").status == 404


def test_a_service_makes_its_certificate_with_names(admin: Admin, maker: Maker) -> None:
    (name,) = names(1)
    service = maker.row("services")
    made = admin.put(f"/services/{service['id']}/client_certificate", {**own_fields("certificates"), "snis": [name]})
    assert made["snis"] == [name]
    assert admin.get(f"/services/{service['id']}/client_certificate") == made
