"""What the head remembers of what has ended."""

from __future__ import annotations

import pytest

from jray._core.head import service
from jray._core.head.service import HeadService
from jray._core.specs import ActorSpec, GroupSpec
from tests.machine.test_actors import spec


class NoNodes:
    """A cluster in which nothing is ever placed."""

    def place_actor(self, spec: ActorSpec, client: int) -> None: ...
    def unplace_actor(self, actor_id: bytes) -> None: ...
    def end_worker(self, worker_id: bytes, *, force: bool, reason: str) -> None: ...
    def create_group(self, spec: GroupSpec) -> None: ...
    def remove_group(self, group_id: bytes) -> None: ...

    def nodes_of_group(self, group_id: bytes) -> dict[int, bytes]:
        return {}

    def group_reason(self, group_id: bytes) -> str:
        return ""


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> HeadService:
    """One that remembers three jobs that have ended."""
    monkeypatch.setattr(service, "REMEMBERED_JOBS", 3)
    return HeadService(lambda *_: None, NoNodes())


def known(head: HeadService) -> list[str]:
    return [row["job_id"] for row in head.answer(1, "jobs", ())]


def test_of_ended_jobs_the_latest_are_remembered(head: HeadService) -> None:
    """And all that run, however old."""
    first = head.start_job(1, {})
    ended = [head.start_job(n, {}) for n in range(2, 8)]
    for job in ended:
        head.end_job(job.job_id)
    assert known(head) == [job.job_id.hex() for job in (first, *ended[-3:])]


def test_a_job_is_remembered_as_long_as_its_detached_actor_lives(head: HeadService) -> None:
    """Where it runs, and with what, is the job's to tell when it restarts."""
    first = head.start_job(1, {})
    actor = spec(is_detached=True, job=first.job_id)
    head.create_actor(1, actor)
    for n in range(2, 8):
        head.end_job(head.start_job(n, {}).job_id)
    head.end_job(first.job_id)
    assert first.job_id.hex() in known(head)
    head.kill_actor(actor.actor_id, no_restart=True, reason="a test")
    for n in range(8, 12):
        head.end_job(head.start_job(n, {}).job_id)
    assert len(known(head)) == 3
    assert first.job_id.hex() not in known(head)
