"""The process that a driver starts: a node, and the head where there is none yet."""
