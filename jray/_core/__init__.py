"""The runtime: processes, scheduling, ownership, the store.  Knows nothing of notebooks."""
