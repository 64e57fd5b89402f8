"""What one run measured, as data, and as the JSON text that keeps it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.engines import Found

#: A list of numbers alone, over several lines.
_NUMBERS = re.compile(r"\[\s+([-+.,e\d\s]+?)\s+\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """A probe that failed, hung or left processes behind."""

    engine: str
    probe: str
    #: Counted from 1.
    round: int
    text: str


@dataclass(slots=True)
class Results:
    """Everything a report is made from."""

    #: UTC, to the minute.
    measured_at: str
    rounds: int
    quick: bool
    #: True when something else used the machine meanwhile: figures to be measured again.
    provisional: bool
    machine: dict[str, str]
    engines: dict[str, Found]
    #: Row's or limit's key -> engine's name -> one list of samples for each round that measured it.
    samples: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, key: str, engine: str, samples: list[float]) -> None:
        self.samples.setdefault(key, {}).setdefault(engine, []).append(
            [float(f"{sample:.6g}") for sample in samples]
        )

    def medians(self, key: str, engine: str) -> list[float]:
        """The median of each round; empty when none measured it."""
        return [median(samples) for samples in self.samples.get(key, {}).get(engine, []) if samples]

    def value(self, key: str, engine: str) -> float | None:
        """The figure of the table: the median of the rounds' medians."""
        medians = self.medians(key, engine)
        return median(medians) if medians else None


def to_json(results: Results) -> str:
    """Text that can be compared line by line: the samples of one round lie on one line."""
    text = json.dumps(asdict(results), indent=1)
    return _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def from_json(text: str) -> Results:
    """The inverse of `to_json`."""
    data = json.loads(text)
    data["engines"] = {name: Found(**found) for name, found in data["engines"].items()}
    data["problems"] = [Problem(**problem) for problem in data["problems"]]
    return Results(**data)
