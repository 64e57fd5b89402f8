"""Owns the errors of the state API."""

__all__ = ["RayStateApiException", "ServerUnavailable"]


class RayStateApiException(Exception):  # noqa: N818 -- the name is Ray's
    """A question about the cluster's state cannot be answered, or only in part."""


class ServerUnavailable(RayStateApiException, ConnectionError):  # noqa: N818 -- the name is Ray's
    """There is no session whose state could be asked for, or it is another cluster's."""
