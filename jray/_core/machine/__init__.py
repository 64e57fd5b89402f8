"""Pure state machines: told what happened and what time it is, they answer what must be done."""
