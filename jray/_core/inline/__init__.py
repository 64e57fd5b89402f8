"""The inline engine: jray's semantics in one process and thread, so that a debugger works inside tasks and actors.

`jray.init(engine="inline")`, or JRAY_ENGINE=inline in the environment.  It starts no process and no thread.

**When code runs.**  A task runs inside `.remote()`, to its end, in the thread that calls it; so does an actor's
constructor, and a call of an actor that is free.  `breakpoint()` in a task stops in the very line that submits it.
A call of an actor that is busy (further up the same stack, or in another thread) waits its turn and runs in the
thread that kept the actor busy.  What waits for arguments or resources runs as soon as these are there, in the
operation that brings them, or in a `get` or `wait`.

**Async actors** have an event loop each, which nobody runs but who submits or waits: coroutines go on while this
process is in `.remote()`, `get`, `wait`, or awaits a ref.  So they run in the caller's thread as well, inside the
loop of a notebook too.  Inside a coroutine `.remote()` only submits, as it must not block the loop: the work is done
at the next `await`, or in `get`.

**What is the same.**  Arguments, results and captured variables are pickled, so they are copies; arrays are
read-only; what cannot be pickled raises the same errors; options are checked and resources counted; errors come out
of `get` as the same classes, retries, restarts and names work alike.

**What follows from one process and thread**, and so differs:

- `wait` finds every task finished, unless it can't run; a task that waits for what its caller does *after* the call
  never gets it.  What can't come to pass any more is said with a RaySystemError where it is waited for without a
  time-out, instead of waiting for ever.
- `max_concurrency` lets an actor's calls nest, not run side by side.  A generator runs to its end at the call unless
  `_generator_backpressure_num_objects` bounds it: then it goes on as its items are taken, and once its consumer is
  gone to its end, in the operations that come after that.
- Functions and classes that can be imported are imported, not copied: their modules' variables are the caller's own,
  and so are the working directory, `os.environ` but for `env_vars`, signals, `atexit` and the random state.
- `max_calls`, `force=True`, process ids, `log_to_driver` and a job's logging of its workers have no process to be
  about.  `os._exit` and a crash end everything; `sys.exit` ends the task or actor as the death of its worker would.
- What cannot be stopped goes on: a cancelled or killed call that runs at the time ends by itself, unheard.
- KeyboardInterrupt, and leaving a debugger with "quit", end the call and go on to the user at once.
- A failed task keeps the frames of its error for a debugger until the first `get` raises it, with them; so what these
  frames refer to lives until then.
"""
