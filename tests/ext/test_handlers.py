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

from jray_ext.handlers import HeadHandler, HeadsHandler
from jray_ext.manager import Head, HeadManager

Fetch = Callable[..., Awaitable[HTTPResponse]]
WriteHead = Callable[..., dict[str, Any]]
ROUTES = [("jray", "api", "heads"), ("jray", "api", "heads", "s1")]
every_route = pytest.mark.parametrize("route", ROUTES, ids="/".join)


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
    assert json.loads(response.body) == records


async def test_one_head_is_found_by_its_session(write_head: WriteHead, jp_fetch: Fetch) -> None:
    """The record of one head is that of the list."""
    write_head("s1")
    record = write_head("s2")
    response = await jp_fetch("jray", "api", "heads", "s2")
    assert json.loads(response.body) == record


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


@every_route
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_changed(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...], method: str
) -> None:
    """Starting, joining and ending heads is not offered."""
    write_head("s1")
    body = None if method == "DELETE" else "{}"
    code, _ = await status_of(jp_fetch(*route, method=method, body=body))
    assert code == 405


# -- who may ask --------------------------------------------------------------------------------------


@every_route
@pytest.mark.promise("T5")
async def test_without_a_token_nothing_is_told(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...]
) -> None:
    """A caller whom the server does not know gets 403."""
    write_head("s1")
    code, body = await status_of(jp_fetch(*route, headers={"Authorization": ""}, follow_redirects=False))
    assert code == 403
    assert "s1" not in body.get("message", "")


@every_route
async def test_with_a_wrong_token_nothing_is_told(
    write_head: WriteHead, jp_fetch: Fetch, route: tuple[str, ...]
) -> None:
    """A guessed token is as good as none."""
    write_head("s1")
    code, _ = await status_of(jp_fetch(*route, headers={"Authorization": "token wrong"}))
    assert code == 403


class DenyJray(Authorizer):
    """Allows everything but reading jray, and remembers what it was asked."""

    asked: list[tuple[str, str]]

    def is_authorized(self, handler: JupyterHandler, user: User, action: str, resource: str) -> bool:
        """Refuse this one thing."""
        self.asked = [*getattr(self, "asked", []), (action, resource)]
        return (action, resource) != ("read", "jray")


@every_route
@pytest.mark.promise("T5")
async def test_user_without_the_right_is_refused(
    write_head: WriteHead, jp_serverapp: ServerApp, jp_fetch: Fetch, route: tuple[str, ...]
) -> None:
    """The server's authorizer is asked for "read" on "jray", and its no is final."""
    write_head("s1")
    authorizer = DenyJray(parent=jp_serverapp)
    jp_serverapp.web_app.settings["authorizer"] = authorizer
    code, body = await status_of(jp_fetch(*route))
    assert code == 403
    assert "s1" not in body["message"]
    assert authorizer.asked == [("read", "jray")]


@pytest.mark.promise("T5")
async def test_cookie_without_its_xsrf_token_changes_nothing(
    write_head: WriteHead, jp_serverapp: ServerApp, jp_fetch: Fetch
) -> None:
    """The server's check of cross-site requests stands before these routes too."""
    write_head("s1")
    code, body = await status_of(
        jp_fetch("jray", "api", "heads", method="POST", body="{}", headers={"Authorization": ""})
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
    assert json.loads(response.body) == [record]
    if jp_base_url != "/":
        with pytest.raises(HTTPClientError, match="404"):
            await http_server_client.fetch("/jray/api/heads", headers=jp_auth_header)


# -- wiring -------------------------------------------------------------------------------------------


class MadeUpHeads(HeadManager):
    """Finds the same heads everywhere."""

    def heads(self) -> list[Head]:
        """Return a head that no file tells of."""
        return [Head("made-up", 1, 1, "nowhere", 1, None, "python3", 0.0)]


@pytest.fixture
def made_up_heads(jp_server_config: dict[str, Any]) -> None:
    """Have the server use another manager."""
    jp_server_config["JrayExtApp"] = {"head_manager_class": MadeUpHeads}


async def test_manager_is_chosen_by_configuration(made_up_heads: None, jp_fetch: Fetch) -> None:
    """A subclass named in the configuration finds the heads instead."""
    response = await jp_fetch("jray", "api", "heads")
    assert [head["session"] for head in json.loads(response.body)] == ["made-up"]


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
