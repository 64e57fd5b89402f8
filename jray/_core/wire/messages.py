"""Owns the kinds of message: each is a tuple whose first item is one of these numbers.

Tuples and small integers, not dataclasses, because a message per task is the hot path: a dataclass would
cost as much to pickle as everything else in it.  Who sends what to whom, and what follows the number:
"""

from __future__ import annotations

# -- owner -> worker --------------------------------------------------------------------------------
PUSH = 1  #: [task...], [definition...]; a task is (number, template, args[, positions, dependencies])
CANCEL = 3  #: task number, force, recursive
CONSUMED = 4  #: task number, items taken from its stream so far
TRANSIT_DONE = 5  #: [task number...]: refs inside these results are ours to keep now
CALL = 6  #: [call...], [definition...]: as PUSH, for an actor

# -- worker -> owner --------------------------------------------------------------------------------
DONE = 10  #: [result...], microseconds spent running them; results as in `jray._core.worker.results`
ITEMS = 11  #: task number, index of the first, [result...]: items of a stream
GIVEN_BACK = 12  #: [task number...] not started
OUTPUT = 13  #: cell, kind, text, data, task name, pid, task id
RETIRING = 14  #: this worker takes no more tasks (max_calls)

# -- between any two clients: objects, from a borrower to an owner, and back -----------------------------
HELLO_PEER = 20  #: address of the caller, pid, client number, start and suffix of its task ids
BORROW = 21  #: [object id...], token or None: the sender holds a reference to each; answered by BORROWED
RELEASE = 22  #: [object id...]: the sender holds one reference less to each
WANT = 23  #: object id: tell me its value when there is one
VALUE = 24  #: object id, state, data
BORROWED = 25  #: token
LOST = 27  #: object id, Location, why: the bytes that you say are there cannot be had
CANCEL_OF = 26  #: object id, force, recursive: cancel the task that makes it

# -- client -> node ---------------------------------------------------------------------------------
REGISTER = 30  #: request, kind, pid, address, facts; answered by REPLY with a Welcome
LEASE = 31  #: class number, request (units), wanted number, environment key, cell, name, Where, id of the nearest node
RETURN = 32  #: lease number, retire
CREATE = 33  #: request, object id, size; answered by REPLY
SEAL = 34  #: object id, client number of the owner
FREE = 35  #: [object id...]
BLOCKED = 36  #: waits in get: its CPU may serve others
UNBLOCKED = 37
CREATE_ACTOR = 38  #: request, ActorSpec
ACTOR_INFO = 39  #: request, actor id: answered by REPLY, and ACTOR_STATE from then on
KILL_ACTOR = 40  #: actor id, no_restart, reason
ACTOR_READY = 41  #: actor id, what it calls itself or "" (from its worker)
ACTOR_FAILED = 42  #: actor id, serialized exception (from its worker: the constructor raised)
ACTOR_EXITING = 43  #: actor id, reason (from its worker: a wanted exit)
ASK = 44  #: request, question, arguments; answered by REPLY
WHY_DIED = 45  #: request, worker id: answered by REPLY with an ExitCause once it is reaped
ACTOR_RELEASED = 46  #: actor id: the last handle is gone
JOB_OUTPUT = 47  #: as OUTPUT: from a worker whose output belongs to no call
EXIT_JOB = 48  #: the driver leaves
ABORT = 49  #: object id: its creator could not write it
HOLDS = 60  #: number of a dead owner, [object id...] of it that this client holds
SPILL_OFFER = 63  #: round, [(object id, segment, offset, size)...]: what the sender owns and nobody reads
SPILL_MOVED = 64  #: round, [place...]: the sender reads these from the file from now on
TOLD = 62  #: number, answer to TELL or CANCEL_TASKS: see `jray._core.client.reports.Reports.on_tell`
CREATE_GROUP = (
    80  #: GroupSpec without a name; one with a name is created by a question, for the name may be taken
)
REMOVE_GROUP = 81  #: group id
ANNOUNCE_ACTOR = 83  #: ActorSpec, some of whose arguments are not there yet: CREATE_ACTOR comes later
WAIT_GROUP = 82  #: request, group id; answered by REPLY once it is placed (True) or removed (False)
PULL = 73  #: request, object id, Location on another node: answered by REPLY with the place of a copy here
DONE_READING = 74  #: [object id...]: the sender reads these copies no more
DROPPED = 61  #: [object id...]: orphans that this client holds no more

# -- node -> client ---------------------------------------------------------------------------------
REPLY = 50  #: request, is_error, value
GRANT = 51  #: class number, lease number, worker id, address
IDLE_WANTED = 52  #: others wait: give idle leases back
ACTOR_STATE = 53  #: ActorView
LEASED = 54  #: (to a worker) request (floats), GPU ids or None, environment variables
BECOME_ACTOR = 55  #: (to a worker) ActorSpec, number of restarts before
EXIT = 56  #: (to a worker) reason: finish what runs and end
NOTICE = 57  #: cell, text: a message of jray to the user
TELL = 59  #: number, kind, filters, limit, detail: report on your tasks or objects; answered by TOLD
CANCEL_TASKS = 68  #: number, [task id...], name or None, force: cancel such tasks of yours; answered by TOLD
CLIENT_GONE = 58  #: its address and number; answered by HOLDS: what of its objects the client looks at

STORE_FILLS = 90  #: bytes in use, bytes there are: from now on objects go to disk, as far as they can
REFUSED = 69  #: class number, reason: what it must run on is gone, or never was
LOW_MEMORY = 67  #: lease number, MemoryReport: that worker is about to be ended
SPILL_ASK = 65  #: node id, round, bytes: what can go to disk? answered by SPILL_OFFER
SPILL_MOVE = 66  #: node id, round, [(place, object id, segment, offset, file, offset in it)...]; answered by SPILL_MOVED

READY = 75  #: (to the process that started it, if nothing else is said to that) clients may come
TO_STORE = (
    72  #: node id, message: what the sender says (FREE, SPILL_OFFER, SPILL_MOVED) is for that node's store
)

# -- node -> head (jray._core.ports.Head) ------------------------------------------------------------
NODE_JOIN = 100  #: NodeFacts: a node's first message
CLIENT_JOINED = 101  #: ClientFacts, request, facts
CLIENT_LEFT = 102  #: client number
FROM_CLIENT = 103  #: client number, message
TO_CLIENT = 104  #: client number, message: for a client of another node
TO_NODE = 105  #: node id, client number of the sender, message
WORKERS_EXITED = 106  #: [(worker id, ExitCause)...]
MEMORY_LOW = 107  #: MemorySample
NODE_TOLD = 108  #: number, answer
NODE_ENDS = 109  #: why it leaves
ENVIRONMENT_AWAITED = 125  #: worker id: it does not start before its runtime environment is made
ENVIRONMENT_MADE = 126  #: pool
ENVIRONMENT_FAILED = 127  #: pool, SetupFailure
ENVIRONMENT_TOLD = 128  #: pool, text for who waits for it
FETCH_PACKAGE = 129  #: URI, index of a piece; answered by PACKAGE_PIECE

# -- head -> node (jray._core.ports.Node) -------------------------------------------------------------
NODE_WELCOME = 110  #: first of the numbers of its clients
CLIENT_WELCOME = 111  #: client number, request, job id, namespace
DELIVER = 112  #: client number, message
FROM_AFAR = 113  #: client number of the sender, message
START_WORKER = 114  #: WorkerOrder
END_WORKER = 115  #: worker id, reason
END_FOR_MEMORY = 116  #: worker id, MemoryReport
WATCH_MEMORY = 117  #: whether workers are in use
CLIENT_ENDED = 118  #: client number, address, job id
OTHER_NODE_GONE = 119  #: node id
ASK_NODE = 120  #: number, question, arguments; answered by NODE_TOLD
LEAVE = 121  #: why: the node ends
PACKAGE_PIECE = 134  #: URI, index, bytes or None: there are no more, or no such package
ENVIRONMENT_UNWANTED = 135  #: pool: nobody waits for its environment any more
NODE_THERE = 122  #: node id, address: another node of the cluster

# -- node -> node --------------------------------------------------------------------------------------
FETCH = 123  #: id of the fetching node, object id, Location: see `jray._core.node.transfers`
COPY_FREED = 124  #: [object id...]: freed where they are, so that copies are to go; by way of the head

# -- node <-> zygote --------------------------------------------------------------------------------
FORK = 130  #: worker id, environment, log path
FORKED = 131  #: worker id, pid
REAPED = 132  #: pid, wait status
INTERPRETER = 133  #: (from the zygote of a runtime environment's interpreter) it can fork workers from now on
