# SPDX-License-Identifier: Apache-2.0
"""May a console in a real browser drive the gateway, and can no other page?

Kong Manager is a page of another origin (`admin_gui_url`) that calls the Admin API by script: the browser asks before
every call that is not a simple one, and lets the script read only what the answer's header allows.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.admin.process import ControlProcess
from tests.support.chromium import Browser, Page
from tests.support.gateway import Gateway
from tests.support.logs import Log
from tests.support.wait import until

NOBODY = "00000000-0000-4000-8000-000000000000"
# What a console does for each of its calls.
CALL = """
const call = async (method, path, body) => {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const options = { method, headers, credentials: "include", body: body === undefined ? undefined : JSON.stringify(body) };
  const answer = await fetch(API + path, options);
  const text = await answer.text();
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  return { status: answer.status, body: text && isJson ? JSON.parse(text) : null };
};
"""


@dataclass
class Setting:
    """A gateway, a browser, and where pages come from."""

    gateway: Gateway
    browser: Browser
    pages_port: int
    access_log: Log

    @property
    def api(self) -> str:
        """Where the Admin API is."""
        return f"http://127.0.0.1:{self.gateway.admin_port}"

    def page(self, host: str) -> Page:
        """An empty page of a host."""
        made = self.browser.page(f"http://{host}:{self.pages_port}/")
        made.run(f'window.API = "{self.api}";')
        return made


class EmptyPage(BaseHTTPRequestHandler):
    """Serves a page without anything on it."""

    def do_GET(self) -> None:
        """Answers."""
        body = b"<!doctype html><title>page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name that it has in the library
        """Says nothing."""


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    server.daemon_threads = True
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with Gateway({"admin_gui_url": f"http://manager.test:{port}"}) as gateway, Browser() as browser:
            yield Setting(gateway, browser, port, Log(gateway.prefix / "logs" / "admin_access.log"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def manager(setting: Setting) -> Page:
    return setting.page("manager.test")


@pytest.fixture(scope="module")
def foreign(setting: Setting) -> Page:
    return setting.page("foreign.test")


def test_the_console_reads_the_node_and_the_forms_of_all_plugins(manager: Page) -> None:
    found = manager.run(
        CALL
        + """
        const root = await call("GET", "/");
        const names = Object.keys(root.body.plugins.available_on_server);
        const forms = {};
        for (const name of names) forms[name] = (await call("GET", `/schemas/plugins/${name}`)).body;
        return { version: root.body.version, names, forms, services: (await call("GET", "/schemas/services")).status };
        """
    )
    assert (found["version"], found["services"]) == ("3.10.0", 200)
    assert {"key-auth", "rate-limiting", "acl", "jwt"} <= set(found["names"])
    for name, form in found["forms"].items():
        assert "config" in {next(iter(declared)) for declared in form["fields"]}, name


def test_the_console_is_let_through_to_every_endpoint_with_every_method(setting: Setting, manager: Page) -> None:
    document = setting.gateway.admin.get("/openapi.json")
    calls = [
        (method.upper(), re.sub(r"{\w+}", NOBODY, path))
        for path, item in document["paths"].items()
        for method in ("get", "post", "put", "patch", "delete")
        if method in item
    ]
    setting.access_log.mark()
    statuses = manager.run(
        CALL
        + f"const calls = {json.dumps(calls)};"
        + """
        const one = ([method, path]) => call(method, path, method === "GET" ? undefined : { unheard_of: 1 });
        const statuses = [];
        for (let begin = 0; begin < calls.length; begin += 6) {
          const some = calls.slice(begin, begin + 6).map((each) => one(each).then((answer) => answer.status, String));
          statuses.push(...(await Promise.all(some)));
        }
        return statuses;
        """
    )
    unread = [call for call, status in zip(calls, statuses, strict=True) if not isinstance(status, int) or status >= 500]
    # What the legacy client of DNS does not count is told as 501.
    assert [path for _, path in unread if path != "/status/dns"] == []
    asked = {line.split('"')[1].split()[1] for line in setting.access_log.lines() if '"OPTIONS ' in line}
    assert {path for method, path in calls if method in ("PUT", "PATCH", "DELETE")} <= asked


def test_the_console_makes_changes_and_deletes(setting: Setting, manager: Page) -> None:
    found = manager.run(
        CALL
        + """
        const made = await call("POST", "/services", { name: "by-console", url: "http://a.test:1/b", tags: ["console"] });
        const again = await call("POST", "/services", { name: "by-console", host: "a.test" });
        const id = made.body.id;
        const changed = await call("PATCH", `/services/${id}`, { retries: 3 });
        const put = await call("PUT", "/services/by-console", { host: "b.test" });
        const plugin = { name: "rate-limiting", service: { id }, config: { minute: 5 } };
        const good = await call("POST", "/schemas/plugins/validate", plugin);
        const bad = await call("POST", "/schemas/plugins/validate", { ...plugin, config: { policy: "none" } });
        const plugged = await call("POST", `/services/${id}/plugins`, plugin);
        const listed = await call("GET", "/services?tags=console&size=1000");
        const gone = await call("DELETE", `/plugins/${plugged.body.id}`);
        const missing = await call("GET", "/services/nobody");
        return { made, again, changed, put, good, bad, plugged, listed, gone, missing };
        """
    )
    assert found["made"]["status"] == 201
    assert found["again"]["status"] == 409
    assert found["again"]["body"]["message"] == "UNIQUE violation detected on '{name=\"by-console\"}'"
    assert found["again"]["body"]["fields"] == {"name": "by-console"}
    assert (found["changed"]["status"], found["changed"]["body"]["retries"]) == (200, 3)
    assert (found["put"]["body"]["host"], found["put"]["body"]["retries"]) == ("b.test", 5)
    assert found["good"]["body"] == {"message": "schema validation successful"}
    assert (found["bad"]["status"], found["bad"]["body"]["code"]) == (400, 2)
    assert found["bad"]["body"]["fields"]["config"]["policy"].startswith("expected one of")
    assert found["plugged"]["status"] == 201
    assert found["listed"]["body"]["data"] == []
    assert (found["gone"]["status"], found["missing"]["body"]) == (204, {"message": "Not found"})
    setting.gateway.admin.delete("/services/by-console")


def test_a_foreign_page_reads_nothing(foreign: Page) -> None:
    found = foreign.run(
        """
        const attempts = {};
        for (const path of ["/", "/services", "/openapi.json", "/nothing"]) {
          attempts[path] = await fetch(API + path).then((answer) => answer.status, (error) => error.name);
        }
        const opaque = await fetch(API + "/", { mode: "no-cors" });
        const framed = await new Promise((done) => {
          const frame = document.createElement("iframe");
          frame.onload = () => { try { done(frame.contentDocument); } catch (error) { done(error.name); } };
          frame.src = API + "/docs";
          document.body.append(frame);
        });
        return { attempts, opaque: [opaque.type, opaque.status, await opaque.text()], framed };
        """
    )
    assert set(found["attempts"].values()) == {"TypeError"}
    assert found["opaque"] == ["opaque", 0, ""]
    assert found["framed"] is None


def test_a_foreign_page_changes_nothing(setting: Setting, foreign: Page) -> None:
    admin = setting.gateway.admin
    kept = admin.post("/services", {"name": "kept", "host": "a.test"})
    before = (setting.gateway.status()["pylae"]["version"], admin.get("/services")["data"])
    setting.access_log.mark()
    found = foreign.run(
        f'const id = "{kept["id"]}";'
        + """
        const refused = {};
        const attempt = async (name, path, options) => {
          refused[name] = await fetch(API + path, options).then((answer) => answer.type, (error) => error.name);
        };
        const form = new URLSearchParams({ name: "csrf", host: "evil.test" });
        await attempt("put", `/services/${id}`, { method: "PUT", body: "{}", headers: { "Content-Type": "application/json" } });
        await attempt("patch", `/services/${id}`, { method: "PATCH", body: form });
        await attempt("delete", `/services/${id}`, { method: "DELETE" });
        await attempt("form", "/services", { method: "POST", body: form });
        await attempt("text", "/services", { method: "POST", body: '{"host":"evil.test"}' });
        await attempt("blind", "/services", { method: "POST", body: form, mode: "no-cors" });
        await attempt("multipart", "/services", { method: "POST", mode: "no-cors", body: new FormData() });
        await attempt("preflighted", "/config", { method: "POST", body: "{}", headers: { "Content-Type": "text/yaml" } });
        navigator.sendBeacon(API + "/consumers", form);
        await new Promise((done) => {
          const frame = document.createElement("iframe");
          frame.name = "hidden";
          document.body.append(frame);
          const element = document.createElement("form");
          Object.assign(element, { method: "post", action: API + "/upstreams", target: "hidden" });
          element.innerHTML = '<input name="host" value="evil.test">';
          document.body.append(element);
          frame.onload = done;
          element.submit();
        });
        return refused;
        """
    )
    assert found.pop("blind") == found.pop("multipart") == "opaque"
    assert set(found.values()) == {"TypeError"}
    until(lambda: setting.access_log.containing('"POST /consumers'), "the beacon")
    until(lambda: setting.access_log.containing('"POST /upstreams'), "the form")
    writes = [line for line in setting.access_log.lines() if '"OPTIONS ' not in line]
    assert all('" 403 ' in line for line in writes), writes
    assert (setting.gateway.status()["pylae"]["version"], admin.get("/services")["data"]) == before
    admin.delete("/services/kept")


def test_a_page_at_another_port_of_this_machine_is_foreign_too(setting: Setting) -> None:
    page = setting.page("127.0.0.1")
    found = page.run(
        """
        const form = new URLSearchParams({ host: "evil.test" });
        const read = await fetch(API + "/").then((answer) => answer.status, (error) => error.name);
        const written = await fetch(API + "/services", { method: "POST", body: form, mode: "no-cors" });
        return [read, written.type];
        """
    )
    assert found == ["TypeError", "opaque"]
    assert setting.gateway.admin.get("/services")["data"] == []


def test_a_name_that_was_made_to_lead_here_is_not_ours(setting: Setting) -> None:
    # DNS rebinding: the page is of the API's own origin as the browser sees it, under a name of the attacker's.
    page = setting.browser.page(f"http://rebinding.test:{setting.gateway.admin_port}/services")
    assert "hint: `admin_hosts`" in page.run("return document.body.textContent;")
    found = page.run(
        'const made = await fetch("/services", { method: "POST", body: new URLSearchParams({ host: "evil.test" }) });'
        "return made.status;"
    )
    assert found == 403
    assert setting.gateway.admin.get("/services")["data"] == []


# === the page of the API itself ===


LOADED = """
await new Promise((done) => {
  const look = () => document.body.dataset.operations && done();
  new MutationObserver(look).observe(document.body, { attributes: true, childList: true, subtree: true });
  look();
});
"""


@pytest.fixture(scope="module")
def docs(setting: Setting) -> Page:
    page = setting.browser.page(f"{setting.api}/docs")
    page.run(LOADED)
    return page


def test_the_page_shows_every_operation_and_its_fields(setting: Setting, docs: Page) -> None:
    document = setting.gateway.admin.get("/openapi.json")
    count = sum(1 for item in document["paths"].values() for name in item if name != "parameters")
    shown = docs.run(
        """
        const open = (id) => new Promise((done) => {
          const details = document.getElementById(id);
          details.addEventListener("toggle", () => done(details), { once: true });
          details.open = true;
        });
        const services = await open("services.create");
        const plugins = await open("plugins.create");
        const choice = plugins.querySelector("select");
        choice.value = "plugins.rate-limiting.input";
        choice.dispatchEvent(new Event("change"));
        return {
          count: Number(document.body.dataset.operations),
          service: services.textContent,
          example: services.querySelector("textarea").value,
          plugin: plugins.textContent,
          chosen: JSON.parse(plugins.querySelector("textarea").value),
          plugins: choice.options.length,
        };
        """
    )
    assert shown["count"] == count
    assert "Longest wait between two reads from the upstream." in shown["service"]
    assert "at most 2147483646" in shown["service"]
    assert json.loads(shown["example"]) == {"host": ""}
    assert "config.minute" in shown["plugin"]
    assert shown["chosen"]["name"] == "rate-limiting"
    assert shown["plugins"] == len(setting.gateway.admin.get("/plugins/enabled")["enabled_plugins"])
    assert docs.complaints() == []


def test_the_page_sends_what_is_asked_of_it(setting: Setting, docs: Page) -> None:
    answered = """
        const details = document.getElementById(ID);
        if (!details.open) await new Promise((done) => {
          details.addEventListener("toggle", done, { once: true });
          details.open = true;
        });
        for (const [name, value] of Object.entries(VALUES)) details.querySelector(`input[aria-label="${name}"]`).value = value;
        if (BODY) details.querySelector("textarea").value = JSON.stringify(BODY);
        const output = details.querySelector("pre[aria-live]");
        output.textContent = "";
        details.querySelector("button").click();
        await new Promise((done) => {
          const look = () => output.textContent && done();
          new MutationObserver(look).observe(output, { childList: true, characterData: true, subtree: true });
          look();
        });
        return output.textContent;
    """

    def ask(operation: str, values: dict[str, str], body: Any = None) -> str:
        names = {"ID": operation, "VALUES": values, "BODY": body}
        declared = "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items())
        shown: str = docs.run(declared + answered)
        return shown

    assert ask("services.create", {}, {"name": "by-page", "host": "a.test"}).startswith("201 ")
    assert '"name": "by-page"' in ask("services.get", {"services": "by-page"})
    assert ask("services.patch", {"services": "by-page"}, {"port": 0.5}).startswith("400 ")
    assert ask("services.list", {"size": "1"}).startswith("200 ")
    assert ask("services.delete", {"services": "by-page"}).startswith("204 ")
    assert setting.gateway.admin.get("/services")["data"] == []
    assert [text for text in docs.complaints() if "400" not in text] == []


def test_the_page_asks_for_a_token_where_one_is_needed(setting: Setting, tmp_path: Path) -> None:
    token = "a-token-of-the-browser-test"
    with ControlProcess(tmp_path, {"admin_auth_token": token}) as process:
        page = setting.browser.page(f"http://127.0.0.1:{process.admin_port}/docs")
        asked = page.run(
            """
            const main = document.getElementById("main");
            await new Promise((done) => {
              const look = () => main.textContent.includes("401") && done();
              new MutationObserver(look).observe(main, { childList: true, characterData: true, subtree: true });
              look();
            });
            return main.textContent;
            """
        )
        assert "Enter a token" in asked
        page.run(
            f'const field = document.getElementById("token"); field.value = "{token}";'
            'field.dispatchEvent(new Event("change"));' + LOADED
        )
        assert page.run("return document.querySelectorAll('section').length;") > 10
