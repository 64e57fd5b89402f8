"""Owns what a notebook shows of refs, actors' handles and peeks, put into a shell's formatters and taken out again.

Their `repr` stays what it is in scripts, which is Ray's.  Nothing here asks another process or loads a value.
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Callable
from typing import Any

from jray._core.peek import Peek, headline
from jray._core.refs import ObjectRef, RefFacts, current
from jray._core.sketch import human_size
from jray.actor import ActorClass, ActorHandle
from jray.notebook.cells import CellTable

#: says its colour, because browsers do not hand a page's on to tables everywhere
_TABLE = '<table style="color:var(--jp-ui-font-color1, inherit)">'
#: characters of an error's line
_MOST_ERROR = 120


class Looks:
    """jray's entries in the formatters of one shell."""

    def __init__(self, shell: Any, cells: CellTable, is_stable: Callable[[], bool]) -> None:
        self._shell = shell
        self._cells = cells
        #: whether the same notebook must show the same each time: no ids, and no states, which are a matter of time
        self._is_stable = is_stable
        self._entries: tuple[tuple[str, type, Callable[..., Any]], ...] = (
            ("text/plain", ObjectRef, self._print_ref),
            ("text/html", ObjectRef, self._ref_html),
            ("text/plain", ActorHandle, self._print_handle),
            ("text/html", Peek, _peek_html),
        )

    def install(self) -> None:
        for kind, cls, show in self._entries:
            self._shell.display_formatter.formatters[kind].for_type(cls, show)

    def remove(self) -> None:
        for kind, cls, show in self._entries:
            formatter = self._shell.display_formatter.formatters[kind]
            if formatter.type_printers.get(cls) == show:  # the user may have set another since
                formatter.pop(cls)

    # -- refs -------------------------------------------------------------------------------------

    def _print_ref(self, ref: ObjectRef[Any], printer: Any, _is_cycle: bool) -> None:
        printer.text(self.ref_text(ref, is_brief=len(printer.stack) > 1))

    def ref_text(self, ref: ObjectRef[Any], *, is_brief: bool = False) -> str:
        """Return what is known of a ref in one line; *is_brief*: it is one of many in a container."""
        if not _is_live(ref):
            return "ObjectRef of a session that has ended" if ref._client is not None else repr(ref)
        facts = ref._client.ref_facts(ref, is_brief=is_brief)
        if self._is_stable():
            # whether a task has ended yet, and so what it made, may differ each time
            about = "" if facts.task or is_brief else _about(facts)
            return " - ".join(filter(None, (f"ObjectRef{about}", "" if is_brief else self._origin(facts))))
        text = f"ObjectRef{_about(facts)} {facts.state}"
        if facts.error:
            text += f": {_cut(facts.error)}"
        origin = self._origin(facts)
        if origin:
            text += f" - {origin}"
        return f"{text}, task {ref._id[:4].hex()}" if facts.state == "failed" and origin else text

    def _ref_html(self, ref: ObjectRef[Any]) -> str | None:
        if not _is_live(ref) or self._is_stable():
            return None
        facts = ref._client.ref_facts(ref)
        said = [f"<strong>{facts.state}</strong>"]
        if facts.about:
            said.insert(0, f"<code>{html.escape(facts.about)}</code>")
        if facts.size is not None:
            said.insert(-1, human_size(facts.size))
        if facts.error:
            said.append(f"<code>{html.escape(_cut(facts.error))}</code>")
        origin = self._origin(facts)
        if origin:
            said.append(html.escape(origin))
        if facts.state == "failed" and origin:
            said.append(f"task {ref._id[:4].hex()}")
        return f'<div class="jray-ref">ObjectRef {" · ".join(said)}</div>'

    def _origin(self, facts: RefFacts) -> str:
        cell = self._cells.get(facts.cell)
        made = f"{facts.task}()" if facts.task else ""
        return f"{made} In[{cell.execution_count}]" if made and cell is not None else made

    # -- handles ----------------------------------------------------------------------------------

    def _print_handle(self, handle: ActorHandle, printer: Any, _is_cycle: bool) -> None:
        text = f"Actor({handle._jray_meta.class_name})" if self._is_stable() else repr(handle)
        printer.text(text + self.old_code(handle))

    def old_code(self, handle: ActorHandle) -> str:
        """Return a remark if the notebook has defined the actor's class anew since the actor was made; else nothing."""
        cls = handle._jray_meta.cls
        if cls is None or cls.__module__ != "__main__":
            return ""
        now = getattr(sys.modules["__main__"], cls.__qualname__, None)
        if isinstance(now, ActorClass):
            now = now._jray_class
        if now is cls or not isinstance(now, type):
            return ""
        where = self._defined_in(now)
        return f" - old code: {cls.__qualname__} was redefined{where}; make the actor again to use it"

    def _defined_in(self, cls: type) -> str:
        """Return " in In[n]" for a class whose methods tell."""
        for member in vars(cls).values():
            code = getattr(member, "__code__", None)
            name = code and self._shell.compile.format_code_name(code.co_filename)
            if name:
                return f" in {name[1]}"
        return ""


def _is_live(ref: ObjectRef[Any]) -> bool:
    return ref._client is not None and ref._client is current.client


def _about(facts: RefFacts) -> str:
    size = "" if facts.size is None else human_size(facts.size)
    said = " ".join(filter(None, (facts.about, size)))
    return f"[{said}]" if said else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_ERROR else f"{text[: _MOST_ERROR - 1]}…"


def _peek_html(peek: Peek) -> str:
    parts = [f"<strong>{html.escape(headline(peek.facts, peek.sketch))}</strong>"]
    sketch = peek.sketch
    if sketch is not None:
        if sketch.image:
            source = base64.b64encode(sketch.image).decode("ascii")
            parts.append(
                f'<div><img alt="thumbnail" src="data:image/png;base64,{source}" '
                'style="width:128px;image-rendering:pixelated"></div>'
            )
        rows = [
            f'<tr><td style="text-align:left">{html.escape(name)}</td>'
            f'<td style="text-align:left"><code>{html.escape(text)}</code></td></tr>'
            for name, text in sketch.facts
        ]
        if rows:
            parts.append(f"{_TABLE}{''.join(rows)}</table>")
        if sketch.columns:
            head = "".join(f"<th>{html.escape(name)}</th>" for name in sketch.columns)
            body = "".join(
                f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in sketch.rows
            )
            parts.append(f"{_TABLE}<tr>{head}</tr>{body}</table>")
    return f'<div class="jray-peek">{"".join(parts)}</div>'
