"""Exact resource arithmetic, in units of 1/10,000, and the ledger of one node.

It decides what fits and who holds what; it neither detects hardware nor starts anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from jray.exceptions import JrayInternalError

#: Units in 1.0 of a resource. Ray's granularity, so that 0.0001 is the smallest request.
UNITS = 10_000

CPU = "CPU"
GPU = "GPU"
MEMORY = "memory"
OBJECT_STORE_MEMORY = "object_store_memory"

#: Names that have keywords of their own and may not be used as custom resources.
RESERVED_NAMES = frozenset({CPU, GPU, MEMORY, OBJECT_STORE_MEMORY})

#: Largest amount of one resource of a node. Ray's limit; large enough for any memory in bytes.
MAX_QUANTITY = 10**14

_SIZES = ("KiB", "MiB", "GiB", "TiB")

# Added before a quantity is cut to whole units, so that 0.0003, a little less in binary, is 3 of them.
_HALF_A_BIT = 1e-6


def to_units(name: str, quantity: float) -> int:
    """*quantity* of resource *name* in whole units of 1/10,000, what is smaller cut off.

    Raises:
        ValueError: it is negative, not finite, or above 0 but below 0.0001.
    """
    if not math.isfinite(quantity):
        raise ValueError(f"The quantity of resource {name} must be a finite number, not {quantity}.")
    if quantity < 0:
        raise ValueError(f"The quantity of resource {name} cannot be negative, but it is {quantity}.")
    units = quantity * UNITS if isinstance(quantity, int) else int(quantity * UNITS + _HALF_A_BIT)
    if quantity and not units:
        raise ValueError(
            f"The quantity of resource {name} is {quantity}; the smallest one above 0 is 0.0001."
        )
    return units


def format_quantity(name: str, units: int) -> str:
    """*units* of resource *name* as people say it: ``0.5 GPU``, ``2 CPU``, ``1.5 GiB memory``."""
    quantity = units / UNITS
    if name not in (MEMORY, OBJECT_STORE_MEMORY) or quantity < 1024:
        return f"{quantity:.10g} {name}"
    step = min((int(quantity).bit_length() - 1) // 10, len(_SIZES))
    return f"{round(quantity / 1024**step, 1):g} {_SIZES[step - 1]} {name}"


class ResourceSet:
    """An immutable amount of each resource; a name that is absent has amount 0.

    Amounts are whole units of 1/10,000. Sets are equal when all their amounts are.
    """

    __slots__ = ("_hash", "_units")

    def __init__(self, units: Mapping[str, int] = MappingProxyType({})) -> None:
        self._units: dict[str, int] = {name: amount for name, amount in units.items() if amount}
        self._hash: int | None = None
        for name, amount in self._units.items():
            if amount < 0:
                raise ValueError(
                    f"The quantity of resource {name} cannot be negative, but it is {amount / UNITS:g}."
                )

    @classmethod
    def from_floats(cls, quantities: Mapping[str, float]) -> ResourceSet:
        """The set with these quantities; errors are those of `to_units`."""
        return cls({name: to_units(name, quantity) for name, quantity in quantities.items()})

    def to_floats(self) -> dict[str, float]:
        """Name to quantity, zero ones left out."""
        return {name: amount / UNITS for name, amount in self._units.items()}

    def get(self, name: str) -> int:
        """Units of *name*; 0 where it is absent."""
        return self._units.get(name, 0)

    def items(self) -> Iterator[tuple[str, int]]:
        """Name and units of each resource that isn't 0."""
        return iter(self._units.items())

    def without(self, name: str) -> ResourceSet:
        """This set with none of *name*."""
        return ResourceSet({other: amount for other, amount in self._units.items() if other != name})

    def only(self, name: str) -> ResourceSet:
        """This set with nothing but *name*."""
        return ResourceSet({name: self.get(name)})

    def fits_in(self, other: ResourceSet) -> bool:
        """Whether *other* has at least this much of everything."""
        available = other._units
        for name, amount in self._units.items():  # noqa: SIM110  a generator costs as much again
            if available.get(name, 0) < amount:
                return False
        return True

    def missing_from(self, other: ResourceSet) -> list[str]:
        """Names of the resources of which *other* has less than this."""
        return sorted(name for name, amount in self._units.items() if other.get(name) < amount)

    def __add__(self, other: ResourceSet) -> ResourceSet:
        total = dict(self._units)
        for name, amount in other._units.items():
            total[name] = total.get(name, 0) + amount
        return ResourceSet(total)

    def __sub__(self, other: ResourceSet) -> ResourceSet:
        """What is left; raises ValueError if *other* has more of something."""
        left = dict(self._units)
        for name, amount in other._units.items():
            left[name] = left.get(name, 0) - amount
        return ResourceSet(left)

    def __bool__(self) -> bool:
        return bool(self._units)

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, name: object) -> bool:
        return name in self._units

    def __eq__(self, other: object) -> bool:
        return self._units == other._units if isinstance(other, ResourceSet) else NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._units.items()))
        return self._hash

    def __reduce__(self) -> tuple[type[ResourceSet], tuple[dict[str, int]]]:
        return ResourceSet, (self._units,)

    def __repr__(self) -> str:
        amounts = ", ".join(f"{name}: {amount / UNITS:.10g}" for name, amount in self._units.items())
        return f"ResourceSet({amounts})"

    def __str__(self) -> str:
        return ", ".join(format_quantity(name, amount) for name, amount in self._units.items()) or "nothing"


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one lease or actor holds of a node; given back with `NodeResources.release`."""

    #: Distinguishes allocations of the same amounts; unique within one node's ledger.
    number: int
    request: ResourceSet
    #: The GPUs assigned, in the node's order.
    gpu_ids: tuple[str, ...] = ()
    #: Units of each of `gpu_ids` that are held.
    gpu_units: tuple[int, ...] = ()

    @property
    def gpu_fractions(self) -> tuple[float, ...]:
        """Part of each of `gpu_ids` that is held, between 0 and 1."""
        return tuple(units / UNITS for units in self.gpu_units)


class Misfit(NamedTuple):
    """Why a request can never be met as things are, and what would change that, as clauses."""

    needs: str  #: "needs 64 CPU"
    limit: str  #: "the node has 2 CPU"
    remedy: str = "give jray.init() more: num_cpus, num_gpus, resources"
    until: str = "a node that fits joins"

    @property
    def reason(self) -> str:
        return f"{self.needs}, {self.limit}"

    def notice(self, name: str) -> str:
        """Return what is said of *name*, which asks for it: a fact a line."""
        return (
            f"{name} can never run here:\n"
            f"  it {self.needs}\n"
            f"  {self.limit}\n"
            f"  Ask for something else with .options(...), or {self.remedy}.\n"
            f"  It waits until {self.until}."
        )


class NodeResources:
    """The ledger of one node: what it has, what is free, and who holds the rest.

    Not thread-safe. A holder that is blocked may give up its CPU and takes it back later, even if
    that makes more CPU held than there is: running tasks are never stopped for it, and nothing more
    is allocated until they are back below the total.
    """

    def __init__(
        self, total: ResourceSet, gpu_ids: Sequence[str] = (), gpu_units: Sequence[int] | None = None
    ) -> None:
        """`gpu_units` is how much of each of the GPUs there is, in units; whole ones unless told."""
        gpu_units = [UNITS] * len(gpu_ids) if gpu_units is None else gpu_units
        if len(gpu_units) != len(gpu_ids) or total.get(GPU) != sum(gpu_units):
            raise ValueError(
                f"A node with {format_quantity(GPU, total.get(GPU))} needs as many GPU ids, "
                f"not {list(gpu_ids)}."
            )
        if len(set(gpu_ids)) != len(gpu_ids):
            raise ValueError(f"GPU ids must differ, but they are {list(gpu_ids)}.")
        self._total = total
        self._gpu_ids = tuple(gpu_ids)
        # Free units; only CPU may be below 0.
        self._free: dict[str, int] = dict(total.items())
        self._whole_gpus: dict[str, int] = dict(zip(self._gpu_ids, gpu_units, strict=True))
        self._free_gpus: dict[str, int] = dict(self._whole_gpus)
        # Allocation number -> (allocation, whether its CPU is given up at present).
        self._live: dict[int, tuple[Allocation, bool]] = {}
        self._next_number = 0

    @property
    def total(self) -> ResourceSet:
        return self._total

    @property
    def available(self) -> ResourceSet:
        """What is free now; a resource of which nothing is left, or less, is absent."""
        return ResourceSet({name: units for name, units in self._free.items() if units > 0})

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        return self._gpu_ids

    @property
    def allocations(self) -> tuple[Allocation, ...]:
        """The live ones, oldest first."""
        return tuple(allocation for allocation, _ in self._live.values())

    def share_in_use(self, name: str) -> float:
        """Return which part of a resource is held, from 0 to 1; more if blocked holders went on; 0 if there is none."""
        total = self._total.get(name)
        return (total - self._free[name]) / total if total else 0.0

    def allocate(self, request: ResourceSet) -> Allocation | None:
        """Take *request*, or return None and change nothing if it doesn't fit now."""
        free = self._free
        for name, units in request.items():
            if free.get(name, 0) < units:
                return None
        gpu_ids: tuple[str, ...] = ()
        gpu_units: tuple[int, ...] = ()
        wanted_gpu = request.get(GPU)
        if wanted_gpu:
            gpu_ids = self._choose_gpus(wanted_gpu)
            if not gpu_ids:
                return None
            gpu_units = (wanted_gpu,) if wanted_gpu < UNITS else (UNITS,) * len(gpu_ids)
            for gpu_id, units in zip(gpu_ids, gpu_units, strict=True):
                self._free_gpus[gpu_id] -= units
        for name, units in request.items():
            free[name] -= units
        self._next_number += 1
        allocation = Allocation(self._next_number, request, gpu_ids, gpu_units)
        self._live[allocation.number] = (allocation, False)
        return allocation

    def fits(self, request: ResourceSet) -> bool:
        """Tell whether `allocate` would take *request*."""
        free = self._free
        for name, units in request.items():
            if free.get(name, 0) < units:
                return False
        wanted_gpu = request.get(GPU)
        return not wanted_gpu or bool(self._choose_gpus(wanted_gpu))

    def release(self, allocation: Allocation) -> None:
        """Give back all that *allocation* still holds."""
        is_blocked = self._blocked(allocation, "release")
        del self._live[allocation.number]
        for name, units in allocation.request.items():
            if not (is_blocked and name == CPU):
                self._free[name] += units
        for gpu_id, units in zip(allocation.gpu_ids, allocation.gpu_units, strict=True):
            self._free_gpus[gpu_id] += units

    def release_cpu(self, allocation: Allocation) -> None:
        """Give back the CPU of a holder that is blocked; it keeps the rest."""
        if self._blocked(allocation, "release_cpu"):
            raise JrayInternalError("An allocation gave up its CPU twice.", allocation=allocation)
        self._live[allocation.number] = (allocation, True)
        if units := allocation.request.get(CPU):
            self._free[CPU] += units

    def reacquire_cpu(self, allocation: Allocation) -> None:
        """Take back the CPU given up, whether or not that much is free."""
        if not self._blocked(allocation, "reacquire_cpu"):
            raise JrayInternalError(
                "An allocation took back a CPU it had not given up.", allocation=allocation
            )
        self._live[allocation.number] = (allocation, False)
        if units := allocation.request.get(CPU):
            self._free[CPU] -= units

    def infeasible_reason(self, request: ResourceSet) -> str | None:
        """Why *request* can never fit on this node, or None if it can."""
        misfit = self.misfit(request)
        return None if misfit is None else misfit.reason

    def misfit(self, request: ResourceSet) -> Misfit | None:
        """What of *request* can never fit on this node, and what there is; None if it can."""
        missing = request.missing_from(self._total)
        if missing:
            needs = ", ".join(format_quantity(name, request.get(name)) for name in missing)
            has = ", ".join(format_quantity(name, self._total.get(name)) for name in missing)
            return Misfit(f"needs {needs}", f"the node has {has}")
        wanted_gpu = request.get(GPU)
        if wanted_gpu > UNITS and wanted_gpu % UNITS:
            return Misfit(
                f"needs {format_quantity(GPU, wanted_gpu)}", "more than 1 GPU must be a whole number"
            )
        return None

    def waiting_reason(self, request: ResourceSet) -> str | None:
        """What *request* waits for at present, as a clause, or None if it fits now."""
        free_now = self.available
        missing = request.missing_from(free_now)
        if missing:
            needs = ", ".join(format_quantity(name, request.get(name)) for name in missing)
            return f"waits for {needs}: {', '.join(self._used(name, missing) for name in missing)} in use"
        wanted_gpu = request.get(GPU)
        if wanted_gpu and not self._choose_gpus(wanted_gpu):
            parts = ", ".join(f"{units / UNITS:g}" for units in self._free_gpus.values() if units)
            whole = "whole" if wanted_gpu >= UNITS else "on one GPU"
            return (
                f"waits for {format_quantity(GPU, wanted_gpu)} {whole}: free on the node's GPUs are {parts}"
            )
        return None

    def check_invariants(self) -> None:
        """Raise `JrayInternalError` unless what is free and what is held add up to what there is."""
        held: dict[str, int] = dict.fromkeys(self._total, 0)
        held_gpus = dict.fromkeys(self._gpu_ids, 0)
        for allocation, is_blocked in self._live.values():
            for name, units in allocation.request.items():
                if not (is_blocked and name == CPU):
                    held[name] = held.get(name, 0) + units
            for gpu_id, units in zip(allocation.gpu_ids, allocation.gpu_units, strict=True):
                held_gpus[gpu_id] += units
            if sum(allocation.gpu_units) != allocation.request.get(GPU):
                raise JrayInternalError(
                    "An allocation's GPUs differ from its request.", allocation=allocation
                )
        for name, units in held.items():
            if self._free.get(name, 0) + units != self._total.get(name):
                raise JrayInternalError(
                    "Free and held do not add up.", resource=name, free=self._free, held=held
                )
            if self._free.get(name, 0) < 0 and name != CPU:
                raise JrayInternalError("More is held than there is.", resource=name, free=self._free)
        for gpu_id, units in held_gpus.items():
            if self._free_gpus[gpu_id] + units != self._whole_gpus[gpu_id] or self._free_gpus[gpu_id] < 0:
                raise JrayInternalError("A GPU is held wrongly.", gpu_id=gpu_id, free=self._free_gpus)

    def _blocked(self, allocation: Allocation, operation: str) -> bool:
        live = self._live.get(allocation.number)
        if live is None or (live[0] is not allocation and live[0] != allocation):
            raise JrayInternalError(f"{operation}() of an allocation that isn't live.", allocation=allocation)
        return live[1]

    def _used(self, name: str, among: Sequence[str]) -> str:
        """How much of *name* is held; with its name where it is one of several."""
        total = self._total.get(name)
        used = format_quantity(name, total - max(0, self._free.get(name, 0)))
        if len(among) == 1 and name not in (MEMORY, OBJECT_STORE_MEMORY):
            return f"{used.removesuffix(f' {name}')} of {total / UNITS:.10g}"
        return f"{used.removesuffix(f' {name}')} of {format_quantity(name, total)}"

    def _choose_gpus(self, units: int) -> tuple[str, ...]:
        """The GPUs that a request for *units* gets now; empty if none will do."""
        if units < UNITS:
            # The fullest GPU that has room, so that whole GPUs stay whole for those who need them.
            return min(
                ((gpu_id,) for gpu_id, free in self._free_gpus.items() if free >= units),
                key=lambda choice: self._free_gpus[choice[0]],
                default=(),
            )
        count, part = divmod(units, UNITS)
        untouched = [gpu_id for gpu_id, free in self._free_gpus.items() if free == UNITS]
        return () if part or len(untouched) < count else tuple(untouched[:count])


def node_resources_from_user(
    num_cpus: float | None,
    num_gpus: float | None,
    resources: Mapping[str, float] | None,
    memory: float | None,
) -> ResourceSet:
    """The total of a node as its user gives it; None stands for none.

    Raises:
        ValueError: a quantity is negative, not whole, or too large, or a custom resource has the name
            of one that has its own keyword.
        TypeError: a quantity isn't a number, or a name isn't text.
    """
    total: dict[str, int] = {}
    named = [("num_cpus", CPU, num_cpus), ("num_gpus", GPU, num_gpus), ("memory", MEMORY, memory)]
    custom = dict(resources or {})
    for name in custom:
        if not isinstance(name, str):
            raise TypeError(f"The name of a resource must be a string, not {name!r}.")
        if name in RESERVED_NAMES:
            raise ValueError(f"Give {name} with its own keyword of init(), not in resources={custom}.")
    named += [(f"resources[{name!r}]", name, quantity) for name, quantity in custom.items()]
    for source, name, quantity in named:
        if quantity is None and name in RESERVED_NAMES:
            continue
        if not isinstance(quantity, int | float):
            raise TypeError(f"{source} must be a number, not {quantity!r}.")
        if quantity < 0:
            raise ValueError(f"A node can't have less than 0 of a resource, but {source}={quantity}.")
        if not quantity <= MAX_QUANTITY:  # also so for NaN
            raise ValueError(
                f"A node can have at most {MAX_QUANTITY} of a resource, but {source}={quantity}."
            )
        if quantity != int(quantity):
            raise ValueError(
                f"The resources of a node must be whole numbers, but {source}={quantity}. "
                "Tasks and actors may ask for fractions of them."
            )
        total[name] = int(quantity) * UNITS
    return ResourceSet(total)
