"""Owns the list of `%jray`'s commands: an entry here is all that a new one takes."""

from __future__ import annotations

from jray.notebook import cancelling, doctor, inventory, memory, session_commands, view_commands, why
from jray.notebook.commands import Command, CommandTable

COMMANDS = CommandTable(
    Command("status", "what is there and what is in use (the default)", session_commands.status),
    Command(
        "start",
        "start a cluster on this machine, as jray.init() does",
        session_commands.start,
        session_commands.START_OPTIONS,
    ),
    Command("stop", "leave the cluster, and end it if it was started here", session_commands.stop),
    Command(
        "connect", "join a cluster that runs", session_commands.connect, session_commands.CONNECT_OPTIONS
    ),
    Command(
        "tasks",
        "what was submitted and how far it is, by function and cell",
        inventory.list_tasks,
        inventory.TASK_OPTIONS,
        "Of ended tasks the latest are kept. With --all or --failed each has a row, with its id and its error.",
    ),
    Command(
        "actors", "the actors, and how much they have to do", inventory.list_actors, inventory.ACTOR_OPTIONS
    ),
    Command(
        "objects",
        "what is in the object store, the largest first, and what refers to it",
        inventory.list_objects,
        inventory.OBJECT_OPTIONS,
    ),
    Command("nodes", "the machines, and what they offer", inventory.list_nodes),
    Command(
        "memory",
        "what takes room in the store, and what in this notebook holds it",
        memory.show_memory,
        memory.MEMORY_OPTIONS,
        "Names variables, outputs as in Out[7], `_`, and the last traceback. A value goes when nothing refers to it.",
    ),
    Command(
        "free",
        "let go of references that a variable or an output holds",
        memory.free,
        memory.FREE_OPTIONS,
        "A variable goes from the notebook, with what IPython keeps of the same ObjectRefs: outputs, `_`, the last\n"
        "traceback. Their values go when nothing refers to them; with --force at once, and the variable stays.",
    ),
    Command(
        "cancel",
        "stop tasks: one, a function's, a cell's, all",
        cancelling.cancel,
        cancelling.CANCEL_OPTIONS,
        "What tasks have submitted in turn is stopped with them. Waiting ones never start; running ones are\n"
        "interrupted, and with --force their processes are ended.",
    ),
    Command(
        "why",
        "why something is not done: what it waits for, and who holds it",
        why.why,
        why.WHY_OPTIONS,
        "Says which arguments are missing, which resources are wanted and what holds them, which calls an actor has\n"
        "to do before, since when something runs, or with what it failed.",
    ),
    Command(
        "logs",
        "all that a task wrote, also what the cell held back; or which tasks wrote",
        view_commands.logs,
        view_commands.LOGS_OPTIONS,
    ),
    Command(
        "debug",
        "run a failed task again here, with its arguments, under the debugger",
        view_commands.debug,
        view_commands.DEBUG_OPTIONS,
        "Without a task: the latest that failed. What it takes is kept of the last few dozen failed calls of functions.",
    ),
    Command("panel", "a live view of tasks, actors, objects, nodes and logs", view_commands.panel),
    Command(
        "lens",
        "the timeline of a cell's work; or whether cells show theirs",
        view_commands.lens,
        view_commands.LENS_OPTIONS,
    ),
    Command(
        "interrupt",
        "what interrupting a cell does to its work: cancel it, detach from it, or ask",
        view_commands.interrupt,
        view_commands.INTERRUPT_OPTIONS,
    ),
    Command(
        "doctor",
        "check this environment: versions, shared memory, limits, Jupyter's parts",
        doctor.examine,
        description="Each line that is not ok comes with a remedy.",
    ),
    Command("compat", "let `import ray` give jray, here and in tasks", session_commands.use_compat),
)
