"""Owns what this machine's node is to have: what `init` was asked for, and what is found of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jray._core.client.launching import default_store_bytes
from jray._core.detect import detect_gpu_ids, detect_memory_bytes, detect_num_cpus, gpu_ids_for
from jray._core.engine import StartOptions
from jray._core.resources import ResourceSet, node_resources_from_user

#: 4 MiB: room for a few large objects, for tests
_SMALLEST_STORE = 4 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """What a node has."""

    resources: ResourceSet
    gpu_ids: list[str]
    store_bytes: int
    labels: Mapping[str, str]


def capacity_of(options: StartOptions, *, is_head: bool = True) -> Capacity:
    """Return what the node is to have.  Raises TypeError or ValueError for a wrong value."""
    memory_bytes = detect_memory_bytes()
    store_bytes = options.object_store_memory
    if store_bytes is None:
        store_bytes = default_store_bytes(memory_bytes)
    if not isinstance(store_bytes, int) or store_bytes < _SMALLEST_STORE:
        raise ValueError(
            f"object_store_memory must be at least {_SMALLEST_STORE} bytes (an int), got {options.object_store_memory!r}."
        )
    gpu_ids = detect_gpu_ids() if options.num_gpus is None else gpu_ids_for(options.num_gpus)
    total = node_resources_from_user(
        detect_num_cpus() if options.num_cpus is None else options.num_cpus,
        len(gpu_ids) if options.num_gpus is None else options.num_gpus,
        {
            **(options.resources or {}),
            "node:127.0.0.1": 1.0,
            **({"node:__internal_head__": 1.0} if is_head else {}),
        },
        max(0, memory_bytes - store_bytes) if options.memory is None else options.memory,
    )
    return Capacity(total, gpu_ids, store_bytes, _checked_labels(options.labels))


def _checked_labels(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the labels that a user gives the node; TypeError if one isn't text."""
    labels = {} if labels is None else labels
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels must be a dict of str to str, got {labels!r} ({type(labels).__name__}).")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"labels must map str to str, got {key!r}: {value!r}.")
    return labels
