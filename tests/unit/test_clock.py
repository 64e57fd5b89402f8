"""The time of day of monotonic moments."""

from __future__ import annotations

from unittest.mock import patch

from jray._core.clock import WallClock


def test_a_moment_keeps_its_time_while_the_clocks_drift() -> None:
    with patch("time.time", return_value=1000.0), patch("time.monotonic", return_value=10.0):
        clock = WallClock()
    with patch("time.time", return_value=1001.004), patch("time.monotonic", return_value=11.0):
        assert clock.offset_s() == 990.0


def test_a_clock_that_was_set_is_followed() -> None:
    """As after a sleep of the machine, during which the monotonic clock stands still."""
    with patch("time.time", return_value=1000.0), patch("time.monotonic", return_value=10.0):
        clock = WallClock()
    with patch("time.time", return_value=5000.0), patch("time.monotonic", return_value=11.0):
        assert clock.offset_s() == 4989.0


def test_a_process_that_is_stopped_between_its_looks_looks_again() -> None:
    """Else it would take the time for which it was stopped for a difference of the clocks."""
    with (
        patch("time.time", side_effect=[1003.0, 1003.0]),
        patch("time.monotonic", side_effect=[10, 13, 13, 13]),
    ):
        clock = WallClock()
    with patch("time.time", return_value=1004.0), patch("time.monotonic", return_value=14.0):
        assert clock.offset_s() == 990.0


def test_on_a_machine_that_stops_it_each_time_the_best_look_counts() -> None:
    moments = [10.0 + 0.5 * n for n in range(100)]
    with patch("time.time", return_value=1000.0), patch("time.monotonic", side_effect=moments):
        assert WallClock()._offset_s <= 990.0
