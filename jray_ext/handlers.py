"""Owns the step between HTTP and `HeadManager`: routes' parameters in, JSON and status codes out.

Every method asks who calls (`authenticated`) and whether they may (`authorized`, resource "jray").
Nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from jray_ext.manager import HeadManager


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


class HeadsHandler(JrayHandler):
    """GET /jray/api/heads: the running heads of this user, oldest first."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with a list, empty where nothing runs."""
        heads = await asyncio.to_thread(self.manager.heads)
        await self.finish(json.dumps([dataclasses.asdict(head) for head in heads]))


class HeadHandler(JrayHandler):
    """GET /jray/api/heads/{session}: one of them."""

    @web.authenticated
    @authorized
    async def get(self, session: str) -> None:
        """Answer with the head, or 404 where it does not run (any more)."""
        for head in await asyncio.to_thread(self.manager.heads):
            if head.session == session:
                await self.finish(json.dumps(dataclasses.asdict(head)))
                return
        raise web.HTTPError(404, f"No head of session {session} is running.")
