"""`multiprocessing.Pool` over jray's actors; import it from here instead of from `multiprocessing`."""

from __future__ import annotations

from multiprocessing import JoinableQueue, TimeoutError  # noqa: A004 -- the name is the standard library's

from jray.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
