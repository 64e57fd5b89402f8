"""Owns nothing: the import path `jray.util.serialization` of two functions of `jray.util`."""

from jray.util import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "register_serializer"]
