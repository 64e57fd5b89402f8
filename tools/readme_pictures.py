"""Makes the pictures of README.md anew, in a real JupyterLab: `python tools/readme_pictures.py` (extra `browser`)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat

if __package__ is None:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.frontends import ROOT, browse, lacking, open_notebook, serve, wait_until

IMAGES = ROOT / "docs" / "images"
CELLS = [
    """
import random, time
import jray

context = jray.init(num_cpus=2)

@jray.remote
def load(part):
    time.sleep(0.2 + 0.2 * random.Random(part).random())
    return list(range(part))

@jray.remote
def train(rows, rate):
    time.sleep(0.5 + 0.7 * random.Random(rate).random())
    return rate

@jray.remote
class Best:
    def __init__(self):
        self.rate = 0

    def tell(self, rate):
        self.rate = max(self.rate, rate)
        return self.rate

best = Best.remote()
""",
    (
        "parts = [load.remote(part) for part in range(6)]\n"
        "models = [train.remote(part, rate) for rate, part in enumerate(parts)]\n"
        "max(jray.get([best.tell.remote(model) for model in models]))"
    ),
    "jray.panel()",
    "later = [train.remote(load.remote(part), part) for part in range(60)]",
    "for ref in later: jray.cancel(ref)\njray.shutdown()",
]


def main() -> None:
    if (reason := lacking()) is not None:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder:
        home, notebooks = Path(folder, "home"), Path(folder, "notebooks")
        notebooks.mkdir()
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, notebooks / "picture.ipynb")
        with (
            serve(notebooks, home) as server,
            browse() as browser,
            open_notebook(browser, server, "lab", "picture.ipynb") as page,
        ):
            page.wait_ready()
            for index in range(2):
                page.run_cell(index)
            lens = page.cell(1).locator(".jray-lens")
            wait_until(lambda: "of work on" in lens.inner_text(), 30.0, "the end of the picture")
            page.cell(1).screenshot(path=IMAGES / "lens.png")
            page.run_cell(2)
            panel = page.cell(2).locator(".jray-panel")
            panel.wait_for()
            page.run_cell(3)
            wait_until(lambda: "running" in panel.inner_text(), 30.0, "a task that runs", for_s=3.0)
            page.cell(2).screenshot(path=IMAGES / "panel.png")
            page.run_cell(4)


if __name__ == "__main__":
    main()
