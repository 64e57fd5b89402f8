"""What the routes answer, and to whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.auth import Authorizer, User
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import HTTPClientError, HTTPResponse

from jray._heads.cards import Head
from jray_ext.handlers import HeadHandler, HeadsHandler
from jray_ext.manager import HeadCommandError, HeadManager, KeptHead

Fetch = Callable[..., Awaitable[HTTPResponse]]
WriteHead = Callable[..., dict[str, Any]]
HEADS, HEAD = ("jray", "api", "heads"), ("jray", "api", "heads", "s1")
ROUTES = [HEADS, HEAD]
every_route = pytest.mark.parametrize("route", ROUTES, ids="/".join)
#: (route, method, what the authorizer is asked for)
ACTIONS = [
    (HEADS, "GET", "read"),
    (HEADS, "POST", "execute"),
    (HEAD, "GET", "read"),
    (HEAD, "PATCH", "write"),
    (HEAD, "DELETE", "write"),
]
every_action = pytest.mark.parametrize(
    ("route", "method", "action"), ACTIONS, ids=[f"{m} {'/'.join(r)}" for r, m, _ in ACTIONS]
)


def body_of(method: str) -> str | None:
    return "{}" if method in {"POST", "PATCH", "PUT"} else None


async def status_of(answer: Awaitable[HTTPResponse]) -> tuple[int, dict[str, Any]]:
    """Await an error; return its status and its JSON."""
    with pytest.raises(HTTPClientError) as caught:
        await answer
    assert caught.value.response is not None
    return caught.value.code, json.loads(caught.value.response.body or "{}")


# -- answers ------------------------------------------------------------------------------------------


async def test_list_is_empty_where_nothing_runs(runtime_dir: Path, jp_fetch: Fetch) -> None:
    """No head is an answer, not an error."""
    response = await jp_fetch("jray", "api", "heads")
    assert response.headers["Content-Type"].startswith("application/json")
    assert json.loads(response.body) == []


async def test_list_has_every_running_head(write_head: WriteHead, jp_fetch: Fetch) -> None:
    """Each head is listed with its whole record."""
    records = [write_head("s1"), write_head("s2")]
    response = await jp_fetch("jray", "api", "heads")
    assert json.loads(response.body) == [record | {"keeper": None} for record in records]


async def test_one_head_is_found_by_its_session(write_head: WriteHead, jp_fetch: Fetch) -> None:
    """The record of one head is that of the list."""
    write_head("s1")
    record = write_head("s2")
    response = await jp_fetch("jray", "api", "heads", "s2")
    assert json.loads(response.body) == record | {"keeper": None}


async def test_unknown_session_is_404_and_named(write_head: WriteHead, jp_fetch: Fetch) -> None:
    """The answer for a head that is gone says which."""
    write_head("s1")
    code, body = await status_of(jp_fetch("jray", "api", "heads", "gone"))
    assert code == 404
    assert body["message"] == "No head of session gone is running."


@pytest.mark.parametrize("session", ["..%2F..%2Fetc", "%2e%2e", "jray-0-x"])
async def test_session_is_never_a_path(write_head: WriteHead, jp_fetch: Fetch, session: str) -> None:
    """A session is compared with those found, so no name reaches into the file system."""
    write_head("s1")
    code, _ = await status_of(jp_fetch("jray", "api", "heads", session))
    assert code == 404


@pytest.mark.parametrize(
    ("route", "method"),
    [(HEADS, "PUT"), (HEADS, "PATCH"), (HEADS, "DELETE"), (HEAD, "POST"), (HEAD, "PUT")],
    ids=str,
)
async def test_other_methods_are_not_offered(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...], method: str
) -> None:
    """A list cannot be replaced or emptied at once, and a head has no other settings."""
    write_head("s1")
    code, _ = await status_of(jp_fetch(*route, method=method, body=body_of(method)))
    assert code == 405


# -- what is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[]", "The body is a JSON list"),
        ('{"cats": 1}', "cats cannot be set for a head; what can is num_cpus"),
        ('{"num_cpus": "2"}', "num_cpus is '2'; give a whole number"),
        ('{"num_cpus": true}', "num_cpus is True"),
        ('{"num_cpus": -1}', "num_cpus is -1"),
        ('{"resources": {"gadget": "1"}}', "resources is {'gadget': '1'}"),
        ('{"labels": {"zone": 1}}', "labels is {'zone': 1}"),
        ('{"labels": {"zone": "a,b=c"}}', "labels are without commas"),
        ('{"keep_s": -1}', "keep_s is -1; give seconds from 0 up"),
        ('{"idle_s": "100%"}', "idle_s is '100%'"),
        ('{"kernel_name": "no-such%"}', "There is no kernel 'no-such%'"),
        ('{"object_store_memory": 1}', "object_store_memory must be at least 4194304 bytes"),
    ],
)
async def test_what_is_no_head_is_400_and_says_why(
    runtime_dir: Path, jp_fetch: Fetch, body: str, said: str
) -> None:
    """Nothing is started."""
    code, told = await status_of(jp_fetch(*HEADS, method="POST", body=body))
    assert code == 400
    assert said in told["message"]
    assert HeadManager().heads() == []


async def test_text_that_is_no_json_is_400(runtime_dir: Path, jp_fetch: Fetch) -> None:
    """And not the server's fault."""
    code, _ = await status_of(jp_fetch(*HEADS, method="POST", body="{"))
    assert code == 400


async def test_a_head_of_a_program_cannot_be_kept(write_head: WriteHead, jp_fetch: Fetch) -> None:
    """409, with whose it is."""
    record = write_head("s1")
    code, told = await status_of(jp_fetch(*HEAD, method="PATCH", body='{"keep_s": 5}'))
    assert code == 409
    assert f"ends with the process {record['owner_pid']}" in told["message"]


@pytest.mark.parametrize("body", ['{"keep_s": "5"}', '{"keep": 5}'])
async def test_a_wrong_time_is_400(write_head: WriteHead, jp_fetch: Fetch, body: str) -> None:
    """Before anybody is asked."""
    write_head("s1")
    code, _ = await status_of(jp_fetch(*HEAD, method="PATCH", body=body))
    assert code == 400


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_an_unknown_session_is_404(runtime_dir: Path, jp_fetch: Fetch, method: str) -> None:
    """As with GET."""
    code, told = await status_of(jp_fetch(*HEAD, method=method, body=body_of(method)))
    assert code == 404
    assert told["message"] == "No head of session s1 is running."


# -- who may ask --------------------------------------------------------------------------------------


@every_action
@pytest.mark.promise("T5")
async def test_without_a_token_nothing_is_told_or_done(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...], method: str, action: str
) -> None:
    """A caller whom the server does not know gets 403."""
    write_head("s1")
    code, body = await status_of(
        jp_fetch(
            *route, method=method, body=body_of(method), headers={"Authorization": ""}, follow_redirects=False
        )
    )
    assert code == 403
    assert "s1" not in body.get("message", "")


@every_action
@pytest.mark.promise("T5")
async def test_with_a_wrong_token_nothing_is_told_or_done(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...], method: str, action: str
) -> None:
    """A guessed token is as good as none."""
    write_head("s1")
    code, _ = await status_of(
        jp_fetch(*route, method=method, body=body_of(method), headers={"Authorization": "token wrong"})
    )
    assert code == 403


class DenyJray(Authorizer):
    """Allows everything but jray, and remembers what it was asked."""

    asked: list[tuple[str, str]]

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:
        """Refuse what is about this one thing."""
        self.asked = [*getattr(self, "asked", []), (action, resource)]
        return resource != "jray"


@every_action
@pytest.mark.promise("T5")
async def test_user_without_the_right_is_refused(
    write_head: WriteHead,
    jp_serverapp: ServerApp,
    jp_fetch: Fetch,
    route: tuple[str, ...],
    method: str,
    action: str,
) -> None:
    """The server's authorizer is asked, for each method by its own word, and its no is final."""
    write_head("s1")
    authorizer = DenyJray(parent=jp_serverapp)
    jp_serverapp.web_app.settings["authorizer"] = authorizer
    code, body = await status_of(jp_fetch(*route, method=method, body=body_of(method)))
    assert code == 403
    assert "s1" not in body["message"]
    assert authorizer.asked == [(action, "jray")]


@pytest.mark.parametrize(
    ("route", "method"), [(route, method) for route, method, _ in ACTIONS if method != "GET"], ids=str
)
@pytest.mark.promise("T5")
async def test_cookie_without_its_xsrf_token_changes_nothing(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...], method: str
) -> None:
    """The server's check of cross-site requests stands before these routes too."""
    write_head("s1")
    code, body = await status_of(
        jp_fetch(*route, method=method, body=body_of(method), headers={"Authorization": ""})
    )
    assert code == 403
    assert "_xsrf" in body["message"]


@pytest.mark.parametrize("jp_base_url", ["/", "/user/x/"])
@pytest.mark.promise("T5")
async def test_routes_lie_under_the_base_url(
    write_head: WriteHead, jp_base_url: str, http_server_client: Any, jp_auth_header: dict[str, str]
) -> None:
    """Behind a hub the routes move with the server."""
    record = write_head("s1")
    response = await http_server_client.fetch(f"{jp_base_url}jray/api/heads", headers=jp_auth_header)
    assert json.loads(response.body) == [record | {"keeper": None}]
    if jp_base_url != "/":
        with pytest.raises(HTTPClientError, match="404"):
            await http_server_client.fetch("/jray/api/heads", headers=jp_auth_header)


# -- wiring -------------------------------------------------------------------------------------------


class MadeUpHeads(HeadManager):
    """Finds the same heads everywhere, and cannot start one."""

    def heads(self) -> list[KeptHead]:
        """Return a head that no file tells of."""
        head = Head(
            session="made-up", pid=1, start_time=1, address="nowhere", session_dir="", store_dir="", spill_dir="",
            num_cpus=1, owner_pid=None, started_by="a test", idle_timeout_s=None, python="python3", created_s=0.0,
        )  # fmt: skip
        return [KeptHead(head, None)]

    def start(self, *_: Any) -> KeptHead:
        """Fail with a text that must not be taken for a format."""
        raise HeadCommandError("no room: 100% of it is %s")


@pytest.fixture
def made_up_heads(jp_server_config: dict[str, Any]) -> None:
    """Have the server use another manager."""
    jp_server_config["JrayExtApp"] = {"head_manager_class": MadeUpHeads}


async def test_manager_is_chosen_by_configuration(made_up_heads: None, jp_fetch: Fetch) -> None:
    """A subclass named in the configuration finds the heads instead."""
    response = await jp_fetch("jray", "api", "heads")
    assert [head["session"] for head in json.loads(response.body)] == ["made-up"]


async def test_what_goes_wrong_with_a_start_is_told(made_up_heads: None, jp_fetch: Fetch) -> None:
    """500, and the text as it is."""
    code, told = await status_of(jp_fetch(*HEADS, method="POST", body="{}"))
    assert (code, told["message"]) == (500, "no room: 100% of it is %s")


def test_asking_is_not_activity() -> None:
    """A panel that polls does not keep an idle server alive."""
    assert not HeadsHandler._track_activity
    assert not HeadHandler._track_activity


def test_server_finds_the_extension_by_its_data_file(tmp_path: Path) -> None:
    """Where jray is installed the extension is enabled and valid without a word of configuration."""
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"JUPYTER_CONFIG_DIR": str(tmp_path)},
    )
    lines = (listed.stdout + listed.stderr).splitlines()
    assert any("jray_ext" in line and "enabled" in line for line in lines)
    assert any("jray_ext" in line and "OK" in line for line in lines)
