"""Every file of a split, opened and decoded; what is wrong with one is noted, and the others are still looked at."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dataset import make_split
from dataset.base import DatasetSpec, Sample
from dataset.index import map_in_threads, scan_sample
from dataset.reading import probe
from dataset.splits import Split
from utils.errors import UserError

FEW_FOLDERS = 8
"""More are counted together: Cityscapes has one for each city."""


@dataclass(frozen=True)
class Finding:
    """What one sample holds; `counts` (256,) pixels per label value, None where something is wrong with a file."""

    sample: Sample
    counts: np.ndarray | None
    size: tuple[int, int] | None  # height and width in pixels
    kinds: tuple[str, ...]  # format and mode of image and mask
    problems: tuple[str, ...]


@dataclass
class Survey:
    """A split as it lies on disk."""

    name: str
    findings: list[Finding]
    problems: list[str] = field(default_factory=list)  # those of the split as a whole

    @property
    def sound(self) -> list[Finding]:
        """The samples that can be used."""
        return [finding for finding in self.findings if not finding.problems]

    @property
    def all_problems(self) -> list[str]:
        """Those of the split, then those of its files."""
        return self.problems + [problem for finding in self.findings for problem in finding.problems]

    def counts(self) -> np.ndarray:
        """(N,256) pixels of each label value in the masks of the sound samples."""
        return np.stack([finding.counts for finding in self.sound]) if self.sound else np.zeros((0, 256), int)

    def split(self, spec: DatasetSpec) -> Split:
        """The sound samples as the loaders would see them."""
        samples = [finding.sample._replace(size=finding.size) for finding in self.sound]
        return make_split(spec, samples, self.counts() > 0)


def survey(spec: DatasetSpec, root: Path, name: str, num_threads: int | None = None) -> Survey:
    """Read every image and mask of split `name` on all cores. UserError where folders or lists lack."""
    samples = spec.list_samples(root, name)
    findings = map_in_threads(
        lambda sample: examine(sample, spec.label_values), samples, f"{spec.name} {name}", num_threads
    )
    twice = [path for path, count in Counter(sample.image for sample in samples).items() if count > 1]
    return Survey(name, findings, [f"image {path} is listed more than once in {name}" for path in twice])


def examine(sample: Sample, label_values: frozenset[int]) -> Finding:
    """Open and decode both files of a sample."""
    problems, kinds, counts, size = [], [], None, None
    try:
        counts, size = scan_sample(sample, label_values)
    except UserError as error:
        problems.append(str(error))
    for path, role in ((sample.image, "image"), (sample.mask, "mask")):
        try:
            kinds.append(f"{role} {probe(path, role)}")
        except UserError as error:
            problems.append(str(error))
    return Finding(sample, counts, size, tuple(kinds), tuple(dict.fromkeys(problems)))


def shared_images(train: Survey, val: Survey) -> list[str]:
    """Problems: images that serve both splits, so that a test would see what was trained on."""
    trained = {finding.sample.image for finding in train.findings}
    both = [finding.sample.image for finding in val.findings if finding.sample.image in trained]
    return [f"image {path} is listed for training and for validation" for path in both]


def count_files(findings: Sequence[Finding]) -> dict[Path, tuple[int, int]]:
    """Folder -> (files in it, those that samples name), for the folders of images and masks, or those around them."""
    named: dict[Path, int] = Counter(path.parent for finding in findings for path in set(finding.sample[:2]))
    there = {folder: sum(path.is_file() for path in folder.iterdir()) for folder in named if folder.is_dir()}
    if len(there) <= FEW_FOLDERS:
        return {folder: (there[folder], named[folder]) for folder in sorted(there)}
    totals: dict[Path, tuple[int, int]] = {}
    for folder, count in there.items():
        files, used = totals.get(folder.parent, (0, 0))
        totals[folder.parent] = files + count, used + named[folder]
    return dict(sorted(totals.items()))
