"""Owns what `%jray status` shows: nodes and resources, as text and as HTML."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

from jray._core.sketch import human_size

_BYTES = frozenset({"memory", "object_store_memory"})
_FIRST = ("CPU", "GPU", "memory", "object_store_memory")


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One kind of resource, over all nodes."""

    name: str
    used: float
    total: float

    def amounts(self) -> tuple[str, str]:
        """Return (used, total) as people say them."""
        if self.name in _BYTES:
            return human_size(self.used), human_size(self.total)
        return f"{self.used:g}", f"{self.total:g}"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Status:
    """The state of the cluster at one moment.  Its text is the same for the same state."""

    resources: tuple[Resource, ...]
    #: (id, alive, host, resources) of each node
    nodes: tuple[tuple[str, bool, str, Mapping[str, float]], ...]

    def __repr__(self) -> str:
        if not self.nodes:
            return "jray is not running. Start it with %jray start, or just use it."
        alive = sum(is_alive for _, is_alive, _, _ in self.nodes)
        lines = [f"jray: {alive} node{'' if alive == 1 else 's'}"]
        rows = [(resource.name, *resource.amounts()) for resource in self.resources]
        width = max((len(name) for name, _, _ in rows), default=0)
        lines += [f"  {name:<{width}}  {used} of {total} in use" for name, used, total in rows]
        dead = [node_id[:8] for node_id, is_alive, _, _ in self.nodes if not is_alive]
        if dead:
            lines.append(f"  dead: {', '.join(dead)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.nodes:
            return f'<div class="jray-status">{html.escape(repr(self))}</div>'
        used = "".join(
            f'<tr><td style="text-align:left">{html.escape(resource.name)}</td>'
            f'<td style="text-align:right">{html.escape(resource.amounts()[0])}</td>'
            f'<td style="text-align:right">{html.escape(resource.amounts()[1])}</td></tr>'
            for resource in self.resources
        )
        nodes = "".join(
            f"<tr><td>{html.escape(node_id[:8])}</td><td>{'alive' if is_alive else 'dead'}</td>"
            f"<td>{html.escape(host)}</td><td>{html.escape(_amounts(offered))}</td></tr>"
            for node_id, is_alive, host, offered in self.nodes
        )
        if len(self.nodes) > 1:  # of one node the first table says it all
            nodes = f"<table><tr><th>node</th><th>state</th><th>host</th><th>offers</th></tr>{nodes}</table>"
        else:
            nodes = ""
        return (
            '<div class="jray-status"><strong>jray</strong>'
            f"<table><tr><th>resource</th><th>in use</th><th>total</th></tr>{used}</table>{nodes}</div>"
        )


def _amounts(offered: Mapping[str, float]) -> str:
    rows = (Resource(name, 0, offered[name]) for name in _ordered(offered))
    return ", ".join(f"{row.name} {row.amounts()[1]}" for row in rows)


def _ordered(names: Mapping[str, Any]) -> list[str]:
    """Return the names worth showing: those of every node first, none that only mark a node."""
    shown = [name for name in names if not name.startswith("node:")]
    return sorted(shown, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def read_status(runtime: Any) -> Status:
    """Ask *runtime* for its state.  Starts nothing."""
    if not runtime.is_initialized():
        return Status((), ())
    total, available = runtime.cluster_resources(), runtime.available_resources()
    resources = tuple(
        Resource(name, total[name] - available.get(name, 0), total[name]) for name in _ordered(total)
    )
    nodes = tuple(
        (
            str(node["NodeID"]),
            bool(node["Alive"]),
            str(node.get("NodeManagerHostname", node.get("NodeManagerAddress", ""))),
            dict(node.get("Resources", {})),
        )
        for node in runtime.nodes()
    )
    return Status(resources, nodes)
