"""What is said of a value is short, true, cheap, and never an error."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from jray._core.sketch import Sketch, describe, human_size, png, sketch


class Point:
    pass


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("not now")


class RudeArray(np.ndarray):
    @property
    def dtype(self) -> Any:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.zeros((1000, 3)), "ndarray float64 (1000, 3)"),
        (np.zeros(3, "u1"), "ndarray uint8 (3,)"),
        (np.float32(2), "float32"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), "DataFrame (1, 2) a, b"),
        (pd.Series([1.0, 2.0]), "Series float64 (2,)"),
        ([1] * 1000, "list of 1,000"),
        ({"a": 1}, "dict of 1"),
        ("text", "str of 4"),
        (None, "None"),
        (Point(), "Point"),
        (Point, "type"),
        (Image.new("RGB", (4, 3)), "Image RGB (4, 3)"),
        (np.zeros(2).view(RudeArray), "RudeArray"),
    ],
)
def test_a_value_is_described_by_type_and_shape(value: object, expected: str) -> None:
    """In a line; of a class that nobody knows, by its name."""
    assert describe(value) == expected


def test_a_description_is_short() -> None:
    """However many columns a frame has, and however long their names."""
    frame = pd.DataFrame({"column " * 20 + str(n): [n] for n in range(100)})
    assert len(describe(frame)) <= 72
    assert describe(frame).startswith("DataFrame (1, 100) column column")


def facts(value: object) -> dict[str, str]:
    return dict(sketch(value).facts)


def test_figures_of_an_array_leave_nan_out_and_count_it() -> None:
    assert facts(np.array([1.0, np.nan, 4.0])) == {"min, mean, max": "1, 2.5, 4", "NaN": "1"}
    assert facts(np.array([True, False, True, True])) == {"true": "75.0%"}
    assert facts(np.array([np.nan])) == {"NaN": "1"}
    assert facts(np.array([])) == {}
    assert facts(np.array(["a", "b"])) == {"begins": "'a', 'b'"}


@pytest.mark.parametrize("shape", [(10_000_000,), (2, 4_000_000), (4_000_000, 2), (300, 300, 300)])
def test_of_a_large_array_a_sample_is_looked_at(shape: tuple[int, ...]) -> None:
    """Of about 100,000 elements, which it says; the array is broadcast, so a copy would show in memory."""
    array = np.broadcast_to(np.float32(3), shape)
    ((name, text),) = facts(array).items()
    said = int(name.removeprefix("min, mean, max of ").removesuffix(" elements").replace(",", ""))
    assert 10_000 <= said <= 100_000
    assert text == "3, 3, 3"


def picture(found: Sketch) -> Any:
    return np.asarray(Image.open(io.BytesIO(found.image)))


def test_a_matrix_has_a_thumbnail() -> None:
    """Grey from its least to its greatest value, of at most 64 pixels a side; what is no number is black."""
    matrix = np.tile(np.linspace(-5, 5, 1000), (10, 1))
    matrix[0, 0] = np.inf
    shown = picture(sketch(matrix))
    assert shown.shape[0] == 10
    assert 32 <= shown.shape[1] <= 64
    assert shown[1, 0] == 0
    assert shown[0, 0] == 0
    assert shown[1, -1] > 245
    assert picture(sketch(np.full((4, 4), 7))).max() == 0
    assert sketch(np.full((4, 4), np.nan)).image == b""


def test_an_image_keeps_its_colours() -> None:
    colours = np.zeros((8, 8, 3), "u1")
    colours[..., 0] = 200
    assert picture(sketch(colours))[3, 3].tolist() == [200, 0, 0]
    assert picture(sketch(colours / 255.0))[3, 3].tolist() == [200, 0, 0]
    assert picture(sketch(Image.new("RGB", (300, 200), (1, 2, 3))))[0, 0].tolist() == [1, 2, 3]
    assert sketch(np.zeros((8, 8, 5))).image == b""
    assert sketch(np.zeros(8)).image == b""


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_is_what_was_drawn(channels: int) -> None:
    pixels = np.arange(5 * 3 * channels, dtype="u1")
    shown = np.asarray(Image.open(io.BytesIO(png(pixels.tobytes(), 5, 3, channels))))
    assert shown.reshape(-1).tolist() == pixels.tolist()


def test_a_frame_has_its_first_rows_and_types() -> None:
    found = sketch(pd.DataFrame({"a": range(100), "b": ["x" * 100] * 100}))
    assert found.columns[0] == "a (int64)"
    assert [row[0] for row in found.rows] == ["0", "1", "2", "3", "4"]
    assert len(found.rows[0][1]) == 24
    wide = sketch(pd.DataFrame(np.zeros((2, 20))))
    assert len(wide.columns) == 8
    assert dict(wide.facts) == {"columns not shown": "12"}
    assert sketch(pd.Series([5, 6], name="s")).columns == ("s (int64)",)


def test_containers_show_their_first_items() -> None:
    assert sketch([1, "two", np.zeros(3)]).facts == (
        ("[0]", "1"),
        ("[1]", "'two'"),
        ("[2]", "ndarray float64 (3,)"),
    )
    assert sketch({"a": [1, 2]}).facts == (("'a'", "list of 2"),)
    assert len(sketch(set(range(100))).facts) == 5
    assert facts("x" * 10_000)["begins"].startswith("'xxx")
    assert len(facts("x" * 10_000)["begins"]) < 200


def test_a_repr_that_raises_is_said() -> None:
    """It is the user's own; the rest of the sketch stands."""
    assert sketch(Rude()) == Sketch("Rude", (("note", "looking into it raised RuntimeError: not now"),))


def test_sizes_are_said_as_people_do() -> None:
    assert [human_size(n) for n in (0, 1023, 1536, 8_000_000, 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "7.6 MiB",
        "1.0 TiB",
    ]
