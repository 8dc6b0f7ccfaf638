"""The class index on generated files of VOC size: two threads against one, and what it costs to read it again.

python -m benchmarks.index                # 10,000 masks; about 300 MB in a temporary folder
python -m benchmarks.index --masks 1000   # a quick look
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Comparison, compare, median_seconds, parser, report
from benchmarks.pictures import make_samples
from dataset.base import Sample
from dataset.index import load_index, look_at, scan_masks
from dataset.reading import read_mask
from dataset.voc import SPEC


def scan(samples: list[Sample], num_threads: int) -> np.ndarray:
    """Which values occur where."""
    return scan_masks(samples, SPEC.label_values, title=f"{num_threads} thread(s)", num_threads=num_threads).values


def obvious_scan(samples: list[Sample]) -> np.ndarray:
    """The same with numpy, one mask after the other."""
    found = np.zeros((len(samples), 256), dtype=bool)
    for row, sample in zip(found, samples, strict=True):
        row[np.unique(read_mask(sample.mask))] = True
    return found


def main() -> None:
    """Check, time, report."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--masks", type=int, default=10_000)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        samples = make_samples(root, options.masks)
        np.testing.assert_array_equal(scan(samples, 2), obvious_scan(samples))

        def against(name: str, other) -> Comparison:
            subject = f"{options.masks} masks, two threads against {name}"
            return compare(subject, other, lambda: scan(samples, 2), repeats=options.repeats, difference=0.0)

        def load() -> None:
            load_index(samples, root=root, name="benchmark", label_values=SPEC.label_values)

        rows = [
            against("one thread", lambda: scan(samples, 1)),
            against("one loop with numpy.unique", lambda: obvious_scan(samples)),
        ]
        read = median_seconds(load, repeats=options.repeats)
        stat = median_seconds(lambda: look_at(samples, root, SPEC.label_values), repeats=options.repeats)
    report("index", options.out, rows, seconds_to_read_it_again=read, of_which_looking_at_the_files=stat)


if __name__ == "__main__":
    main()
