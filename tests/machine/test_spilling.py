"""Rounds that move objects to disk: whatever is answered, in whatever order, and whoever dies."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jray._core.machine.spilling import Ask, Copy, Ended, Move, Offer, Settle, Spilling


def offer(n: int, size: int = 10) -> Offer:
    return Offer(n.to_bytes(4, "little"), 0, n * 100, size)


def only(actions: list[Any], kind: type) -> Any:
    (action,) = actions
    assert isinstance(action, kind)
    return action


def test_a_round_asks_copies_moves_and_ends() -> None:
    machine = Spilling()
    ask = only(machine.begin(25, [1, 2]), Ask)
    assert (ask.clients, ask.wanted) == ((1, 2), 25)
    assert machine.offered(ask.round, 1, [offer(1), offer(2)]) == []
    copy = only(machine.offered(ask.round, 2, [offer(3), offer(4)]), Copy)
    assert copy.offers == (offer(1), offer(3), offer(2))  # the oldest of each in turn, until there is enough
    moves = machine.copied(copy.round)
    assert moves == [Move(1, 1, (0, 2)), Move(1, 2, (1,))]
    assert machine.moved(1, 1, [2]) == [Settle(1, 1, (2,), (0,))]
    assert machine.moved(1, 2, [1]) == [Settle(1, 2, (1,), ()), Ended(1, 20)]
    assert not machine.round


def test_nobody_to_ask_or_nothing_offered_ends_the_round() -> None:
    machine = Spilling()
    assert machine.begin(1, []) == [Ended(1, 0)]
    ask = only(machine.begin(1, [1]), Ask)
    assert machine.offered(ask.round, 1, []) == [Ended(2, 0)]


def test_who_does_not_answer_in_time_offers_nothing_then_and_later() -> None:
    machine = Spilling()
    ask = only(machine.begin(10, [1, 2]), Ask)
    machine.offered(ask.round, 1, [offer(1)])
    copy = only(machine.overdue(), Copy)
    assert copy.offers == (offer(1),)
    assert machine.offered(ask.round, 2, [offer(2)]) == []
    assert machine.overdue() == []


def test_what_could_not_be_written_stays() -> None:
    machine = Spilling()
    ask = only(machine.begin(10, [1]), Ask)
    machine.offered(ask.round, 1, [offer(1)])
    assert machine.failed(ask.round) == [Ended(1, 0)]


@given(st.data())
def test_every_copy_is_settled_once_whatever_happens(data: st.DataObject) -> None:
    """And the bytes said to be freed are those of the copies taken."""
    machine = Spilling()
    clients = data.draw(st.lists(st.integers(1, 5), unique=True))
    actions = machine.begin(data.draw(st.integers(1, 100)), clients)
    alive = set(clients)
    to_offer: set[int] = set()
    to_move: dict[int, Move] = {}
    copying: Copy | None = None
    chosen: tuple[Offer, ...] = ()
    settled: list[int] = []
    taken = 0
    ended: Ended | None = None
    numbers = iter(range(1000))

    def see(actions: list[Any]) -> None:
        nonlocal copying, chosen, taken, ended
        for action in actions:
            assert ended is None
            if isinstance(action, Ask):
                to_offer.update(action.clients)
            elif isinstance(action, Copy):
                copying, chosen = action, action.offers
            elif isinstance(action, Move):
                to_move[action.client] = action
            elif isinstance(action, Settle):
                settled.extend((*action.taken, *action.refused))
                taken += sum(chosen[place].size for place in action.taken)
            else:
                ended = action

    see(actions)
    while ended is None:
        choices = [("offer", client) for client in to_offer & alive]
        choices += [("move", client) for client in to_move.keys() & alive]
        choices += [("die", client) for client in alive]
        if to_offer:
            choices.append(("overdue", 0))
        if copying is not None:
            choices += [("copied", 0), ("failed", 0)]
        event, client = data.draw(st.sampled_from(sorted(choices)))
        if event == "offer":
            to_offer.discard(client)
            sizes = data.draw(st.lists(st.integers(1, 40), max_size=4))
            see(machine.offered(1, client, [offer(next(numbers), size) for size in sizes]))
        elif event == "move":
            places = to_move.pop(client).places
            see(machine.moved(1, client, data.draw(st.lists(st.sampled_from(places), unique=True))))
        elif event == "die":
            alive.discard(client)
            to_offer.discard(client)
            to_move.pop(client, None)
            see(machine.client_gone(client))
        elif event == "overdue":
            to_offer.clear()
            see(machine.overdue())
        elif event == "copied":
            copying = None
            see(machine.copied(1))
        else:
            copying = None
            chosen = ()
            see(machine.failed(1))
    assert sorted(settled) == list(range(len(chosen)))
    assert ended.freed == taken
