"""Owns the step between HTTP and `HeadManager`: routes' parameters in, JSON and status codes out.

Every method asks who calls (`authenticated`) and whether they may (`authorized`, resource "jray"): to look is to
"read", to keep or end a head to "write", to start one to "execute".  Tokens against forged requests are the
server's own (XSRF), and stay on.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from http.client import responses
from typing import Any, NoReturn, TypeVar

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from tornado import web

from jray_ext.manager import (
    BadRequestError,
    HeadCommandError,
    HeadManager,
    KeptHead,
    NotKeepableError,
    UnknownHeadError,
    command_of,
)

T = TypeVar("T")

#: what goes wrong -> the status that says so
_STATUS: dict[type[Exception], int] = {
    UnknownHeadError: 404,
    BadRequestError: 400,
    NotKeepableError: 409,
    HeadCommandError: 500,
}


class JrayHandler(ExtensionHandlerMixin, APIHandler):
    """What the routes share."""

    auth_resource = "jray"

    # A page left open that asks again and again must not keep an idle server from being culled.
    _track_activity = False

    @property
    def manager(self) -> HeadManager:
        """The manager that the extension made."""
        manager: HeadManager = self.settings["jray_head_manager"]
        return manager

    async def off_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what blocks in a thread; what it raises for the caller's sake becomes a status and a message."""
        try:
            return await asyncio.to_thread(function, *arguments)
        except tuple(_STATUS) as error:
            return self.refuse(_STATUS[type(error)], str(error))

    def refuse(self, status: int, text: str) -> NoReturn:
        """End the request with that status and message.

        Not by HTTPError, which takes the text for a format, and shows it with each % doubled.
        """
        self.set_status(status)
        self.finish(json.dumps({"message": text, "reason": responses[status]}))
        raise web.Finish

    def read_body(self, known: set[str] | None = None) -> dict[str, Any]:
        """Return the JSON object of the request; none is an empty one.  400 for what is none, or has keys not *known*."""
        body = self.get_json_body()
        if body is None:
            return {}
        if not isinstance(body, dict):
            self.refuse(400, f"The body is a JSON {type(body).__name__}; an object was expected.")
        unknown = sorted(body.keys() - known) if known is not None else []
        if known is not None and unknown:
            self.refuse(
                400, f"The body has {', '.join(unknown)}; what it may have is {', '.join(sorted(known))}."
            )
        return body

    async def answer(self, head: KeptHead) -> None:
        await self.finish(json.dumps(head.to_record()))


class HeadsHandler(JrayHandler):
    """/jray/api/heads: the running heads of this user."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a list, oldest first, empty where nothing runs."""
        heads = await self.off_loop(self.manager.heads)
        await self.finish(json.dumps([head.to_record() for head in heads]))

    @web.authenticated
    @authorized("execute")  # type: ignore[untyped-decorator]
    async def post(self) -> None:
        """Start a head that this server keeps: 201, its record, and where it is.

        The body may have settings of `HeadManager`, for this head alone, and "kernel_name": the kernel whose Python is
        to run it, since all processes of a cluster have the same.
        """
        body = self.read_body()
        command = self._command_of(body.pop("kernel_name")) if "kernel_name" in body else None
        head = await self.off_loop(self.manager.start, body, command)
        self.set_status(201)
        self.set_header("Location", url_path_join(self.base_url, "jray/api/heads", head.head.session))
        await self.answer(head)

    def _command_of(self, kernel_name: Any) -> list[str]:
        """Return the command line of jray by the Python of a kernel."""
        try:
            argv = self.kernel_spec_manager.get_kernel_spec(str(kernel_name)).argv
        except KeyError:
            self.refuse(400, f"There is no kernel {kernel_name!r}.")
        if not argv or not os.path.basename(argv[0]).startswith("python"):
            self.refuse(400, f"The kernel {kernel_name!r} is not of Python.")
        return command_of(argv[0])


class HeadHandler(JrayHandler):
    """/jray/api/heads/{session}: one of them; 404 where it does not run (any more)."""

    @web.authenticated
    @authorized
    async def get(self, session: str) -> None:
        """Answer with its record."""
        await self.answer(await self.off_loop(self.manager.head, session))

    @web.authenticated
    @authorized
    async def patch(self, session: str) -> None:
        """Take it into this server's keeping, for `{"keep_s": seconds or null}` after the server's end.

        Kernels of this server then join it before others.  409 if it ends with a program.
        """
        body = self.read_body({"keep_s"})
        keep_s = body.get("keep_s", self.manager.keep_s)
        await self.answer(await self.off_loop(self.manager.keep, session, keep_s))

    @web.authenticated
    @authorized
    async def delete(self, session: str) -> None:
        """End it, with all that runs on it, whoever has started it: 204."""
        await self.off_loop(self.manager.stop, session)
        self.set_status(204)
        await self.finish()
