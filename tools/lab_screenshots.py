"""Run notebooks in a real JupyterLab, in a browser without a window, and keep pictures of what it shows.

usage: python tools/lab_screenshots.py NOTEBOOK... [--output FOLDER] [--themes light,dark] [--frontend lab]

Each notebook is copied, so the saved one stays as it is; opened; run from its first to its last cell; and
photographed screen by screen in each theme.  Ends with status 1 if a cell of any of them raised.

Needs what the extra `browser` brings, and Chromium (on Debian: the package chromium).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tools.frontends import THEMES, browse, lacking, open_notebook, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as described above; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--output", type=Path, default=Path("build/screenshots"), help="default: %(default)s")
    parser.add_argument("--themes", default=",".join(THEMES), help="default: %(default)s")
    parser.add_argument("--frontend", choices=("lab", "notebook"), default="lab", help="default: %(default)s")
    options = parser.parse_args(arguments)
    themes = options.themes.split(",")
    if unknown := set(themes) - set(THEMES):
        parser.error(f"no theme is called {', '.join(sorted(unknown))}; there are {', '.join(THEMES)}")
    reason = lacking()
    if reason is not None:
        parser.error(reason)

    has_failed = False
    with tempfile.TemporaryDirectory(prefix="lab-") as temporary:
        home = Path(temporary)
        folder = home / "notebooks"
        folder.mkdir()
        for notebook in options.notebooks:
            shutil.copy(notebook, folder)
        with serve(folder, home) as server, browse() as browser:
            for notebook in options.notebooks:
                with open_notebook(browser, server, options.frontend, notebook.name) as page:
                    started_s = time.monotonic()
                    errors = page.run_all()
                    print(f"{notebook.name} ran in {time.monotonic() - started_s:.1f} s")
                    for error in errors:
                        print(f"  a cell raised {error}")
                    has_failed = has_failed or bool(errors)
                    for theme in themes:
                        page.set_theme(theme)
                        pages = page.photograph(options.output, f"{notebook.stem}-{theme}")
                        print(f"  {theme}: {len(pages)} pages in {options.output}")
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
