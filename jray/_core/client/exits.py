"""Owns the signal by which an actor ends itself."""


class ActorExit(SystemExit):
    """Raised by `exit_actor`: ends the actor, and is no failure."""
