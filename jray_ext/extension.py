"""Owns the extension's settings and its wiring; what it answers is in `handlers` and `manager`."""

from __future__ import annotations

import asyncio

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets import Bool, Type

from jray_ext.handlers import HeadHandler, HeadsHandler
from jray_ext.manager import BadRequestError, HeadCommandError, HeadManager


class JrayExtApp(ExtensionApp):
    """Lists, starts, keeps and ends heads of this user under /jray/api."""

    name = "jray"
    description = "Lists, starts, keeps and ends jray heads of this user, for the kernels of this server."
    extension_url = "/jray"

    head_manager_class = Type(
        default_value=HeadManager,
        klass=HeadManager,
        help="The class that finds and starts heads: a subclass of jray_ext.manager.HeadManager.",
    ).tag(config=True)
    auto_start = Bool(
        False,
        help="Whether the server starts a head by itself, unless it takes over that of an earlier server. "
        "jray.init() in its kernels then joins that one, so that their restarts leave named actors alive.",
    ).tag(config=True)

    classes = [HeadManager]  # noqa: RUF012 -- traitlets reads it: its settings are among the extension's

    def initialize_settings(self) -> None:
        """Make the manager; handlers find it in the settings."""
        manager = self.head_manager_class(parent=self)
        manager.publish()
        self.settings["jray_head_manager"] = self._manager = manager
        self._starting: asyncio.Task[None] | None = None

    def initialize_handlers(self) -> None:
        """Add the routes, to which the server adds its base URL."""
        self.handlers.extend(
            [
                (r"/jray/api/heads", HeadsHandler),
                (r"/jray/api/heads/(?P<session>[^/]+)", HeadHandler),
            ]
        )

    async def _start_jupyter_server_extension(self, _serverapp: ServerApp) -> None:
        """Take over heads of an earlier server, or start one, while the server goes on coming up."""
        self._starting = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        try:
            taken = await asyncio.to_thread(self._manager.take_over)
            if self.auto_start and not taken:
                await asyncio.to_thread(self._manager.start)
        except (BadRequestError, HeadCommandError, OSError) as error:
            self.log.error("jray could not start a head: %s", error)  # noqa: TRY400 -- the text says it all

    async def stop_extension(self) -> None:
        """Let a start that is under way come to its end; heads go on without the server for as long as is agreed."""
        if self._starting is not None:
            await self._starting
