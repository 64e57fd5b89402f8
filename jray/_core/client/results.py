"""Owns the forms in which a worker answers a task; each is a tuple in a messages.DONE.

    (number, ATOM, value)
    (number, INLINE, bytes[, nested])
    (number, STORED, location[, nested])
    (number, ERROR, bytes of the exception, is_cancelled)
    (number, MANY, [(state, data[, nested])...])         several returns
    (number, STREAM_END)                                   the items came before, in messages.ITEMS

`nested` lists (object id, owner's address) of the refs inside a value, which its reader must borrow.
"""

#: as a number of returns: a stream of objects, and one object that holds a list of refs
STREAMING, DYNAMIC = -1, -2

MANY = 5
STREAM_END = 6

_RETURNS = {"streaming": STREAMING, "dynamic": DYNAMIC}


def returns_number(returns: int | str) -> int:
    """Return an option's num_returns as messages carry it."""
    return returns if isinstance(returns, int) else _RETURNS[returns]
