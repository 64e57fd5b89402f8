"""Owns the name of a notebook's own namespace."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path


def notebook_namespace() -> str:
    """Return a namespace of this notebook's own, the same after each restart of its kernel; a script's, in a script.

        jray.init(address="auto", namespace=jray.util.notebook_namespace())
        store = Store.options(name="store", get_if_exists=True, lifetime="detached").remote()

    Named actors and placement groups in it are found again by the restarted kernel, and by no other notebook.  It is
    made of the notebook's path, and so is another after it was moved or renamed.

    Raises RuntimeError where nothing tells which notebook or script this is.
    """
    main = sys.modules["__main__"]
    # Jupyter Server tells by the environment, VS Code by a variable; a script has its file
    found = (
        os.environ.get("JPY_SESSION_NAME")
        or getattr(main, "__vsc_ipynb_file__", None)
        or getattr(main, "__file__", None)
    )
    if not found:
        raise RuntimeError(
            "This process does not know its notebook's path: neither JPY_SESSION_NAME nor __vsc_ipynb_file__ is set. "
            'Name the namespace yourself, as in jray.init(namespace="my-notebook").'
        )
    path = Path(found).absolute()
    digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
    return f"notebook-{path.stem}-{digest}"
