"""`%jray compat`: a notebook written for Ray, in a real kernel."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from jray import compat

pytestmark = pytest.mark.timeout(300)


def test_a_notebook_written_for_ray_runs(kernel: Any) -> None:
    """After the magic `import ray` gives jray to the notebook and to tasks, also where a cluster runs already."""
    for cell in (
        "import jray\njray.init(num_cpus=1)\n@jray.remote\ndef one(): return 1\njray.get(one.remote())",
        "%load_ext jray",
        "%jray compat",
        "import ray\n@ray.remote\ndef where():\n    import ray.util\n    return ray.__version__, ray.util.__name__",
        "print(*ray.get(where.remote()))",
    ):
        request = kernel.start(cell)
        kernel.wait_idle(request)
        assert kernel.errors(request) == []
    assert kernel.text(request).split() == [compat.RAY_VERSION, "jray.util"]
    kernel.run("ray.shutdown()")


def test_what_stands_in_the_way_is_said(
    magic_shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ray must stay Ray the magic says so, in one line."""
    monkeypatch.setenv("JRAY_ENGINE", "ray")
    with pytest.raises(UsageError, match="JRAY_ENGINE"):
        magic_shell.run_line_magic("jray", "compat")
