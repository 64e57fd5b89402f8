"""Owns nothing: the import path `jray.types.ObjectRef`, by which annotations in programs for Ray name the class.

    def submit(x: int) -> "ObjectRef[int]": ...

Here it is the class of the refs themselves, so that `isinstance` works too.
"""

from jray._core.refs import ObjectRef

__all__ = ["ObjectRef"]
