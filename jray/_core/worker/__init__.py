"""The process that runs tasks, or is an actor: a client that also runs code."""
