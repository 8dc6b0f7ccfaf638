"""Any rows that are written to a results file are read from it."""

import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.results import Row, read_rows, write_row

figures = st.floats(0, 1) | st.just(math.nan)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Rows of one task in any order; some are of the same step."""
    num_classes = draw(st.integers(1, 8))
    steps = draw(st.lists(st.integers(0, 9) | st.integers(0, 10**6 - 1), min_size=1, max_size=5))
    iou = st.lists(figures, min_size=1, max_size=num_classes).map(tuple)
    return [Row(step, draw(iou), num_classes, draw(figures)) for step in steps]


@settings(max_examples=30)  # each waits for the disk several times
@given(rows(), st.sampled_from(["", "a note, with a comma"]))
def test_rows_come_back_in_order_the_last_of_each_step(folder: Path, written: list[Row], note: str):
    path = folder / "results.csv"
    path.unlink(missing_ok=True)
    for row in written:
        write_row(path, row, note)
    expected = {row.step: row for row in written}
    # As text, in which every float has its own and NaN equals NaN.
    assert repr(read_rows(path)) == repr([expected[step] for step in sorted(expected)])
    assert path.read_text().startswith(f"# {note}\n" if note else str(min(expected)))
