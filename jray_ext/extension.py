"""Owns the extension's settings and its wiring; what it answers is in `handlers` and `manager`."""

from __future__ import annotations

from jupyter_server.extension.application import ExtensionApp
from traitlets import Type

from jray_ext.handlers import HeadHandler, HeadsHandler
from jray_ext.manager import HeadManager


class JrayExtApp(ExtensionApp):
    """Lists the running heads of this user under /jray/api."""

    name = "jray"
    description = "Lists the running jray heads of this user."
    extension_url = "/jray"

    head_manager_class = Type(
        default_value=HeadManager,
        klass=HeadManager,
        help="The class that finds heads: a subclass of jray_ext.manager.HeadManager.",
    ).tag(config=True)

    def initialize_settings(self) -> None:
        """Make the manager; handlers find it in the settings."""
        self.settings["jray_head_manager"] = self.head_manager_class(parent=self)

    def initialize_handlers(self) -> None:
        """Add the routes, to which the server adds its base URL."""
        self.handlers.extend(
            [
                (r"/jray/api/heads", HeadsHandler),
                (r"/jray/api/heads/(?P<session>[^/]+)", HeadHandler),
            ]
        )
