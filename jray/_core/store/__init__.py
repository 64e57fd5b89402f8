"""Owns the shared memory of one node: who has which bytes, the files they lie in, and how to reach them."""
