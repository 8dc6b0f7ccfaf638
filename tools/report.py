"""A report of one run or of several of one task: a page with curves, heat maps, tables and pictures, and its parts.

    python tools/report.py results/2026-01-31_voc_15-1_RCIL.csv [results/2026-01-31_voc_15-1_FT.csv ...] --out report

Writes report.html, which needs nothing else and no network, report.md, curves.png, a heatmap_NAME.png per run, and
strip.png where the runs have pictures. Configuration, class names and pictures come from the journal beside each
table. Published figures of the same setting stand beside yours.
"""

import argparse
import base64
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import LONGEST_NAME
from metrics.figures import INK, curve, curve_groups, heat, heat_map, save_figure
from metrics.pictures import draw_strip, save_picture
from metrics.results import Row, class_matrix, forgetting
from metrics.tables import Grid, percent
from tools.compare import short_names
from tools.reporting.runs import Run, published, read_run, require_one_task
from utils.errors import UserError, exit_code
from utils.files import atomic_write
from utils.options import ToolParser, a_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Report one run, or several of one task.")
    parser.add_argument("files", nargs="+", type=a_path, metavar="FILE", help="results/DATE_DATASET_TASK_NAME.csv")
    parser.add_argument("--out", type=a_path, default=Path("report"), metavar="DIR", help="folder [report]")
    parser.add_argument("--title", default="", help="of the page")
    parser.add_argument("--first", type=int, metavar="N", help="classes of step 0, background included [from its row]")
    parser.add_argument("--no_published", action="store_true", help="leave out published figures of the same setting")
    text = "also write the curves for TensorBoard, a folder per run, under the tags of run.py"
    parser.add_argument("--tensorboard", type=a_path, metavar="DIR", help=text)
    return exit_code(report, parser.parse_args(arguments))


def report(options: argparse.Namespace) -> None:
    """Read the runs, write all files of the report, and print their paths, that of the page first."""
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file; name a folder")
    runs = [read_run(path, options.first) for path in options.files]
    require_one_task(runs)
    if len({run.name for run in runs}) < len(runs):
        names = short_names(options.files)
        runs = [replace(run, name=name) for run, name in zip(runs, names, strict=True)]
    for path in write(runs, options):
        print(path)


def write(runs: Sequence[Run], options: argparse.Namespace) -> list[Path]:
    """Write all files of the report; their paths, that of the page first."""
    out, first = options.out, runs[0]
    setting = first.dataset, first.task, first.scenario
    authors, finals = ({}, {}) if options.no_published else published(*setting)
    shown = [rows for rows in authors.values() if any(rows == run.rows for run in runs)]
    if unlike := [run for run in runs if not run.of_published_pictures and run.rows not in shown]:
        # Drawn pictures lie in the layout of VOC, too: figures of others would mean nothing beside published ones.
        if finals:
            fault = f"no journal says that {unlike[0].path} is of the published pictures"
            print(f"published figures are left out: {fault}", file=sys.stderr)
        authors, finals = {}, {}
    # A report of the authors' own runs shows each once.
    references = {name: rows for name, rows in authors.items() if rows not in shown}
    title = options.title or " ".join(filter(None, setting)) or "Report"
    curves = {run.name: run.rows for run in runs} | references
    pictures = [out / "curves.png"]
    curve(pictures[0], {name: [rows] for name, rows in curves.items()}, first.num_first, title, references)
    for run in runs:
        pictures.append(out / f"heatmap_{file_name(run.name)}.png")
        write_heat_map(pictures[-1], run)
    if histories := {run.name: run.samples for run in runs if run.samples}:
        pictures.append(out / "strip.png")
        save_picture(draw_strip(histories, first.palette, first.class_names), pictures[-1])
    loader = FileSystemLoader(Path(__file__).with_name("reporting"))
    escaped = select_autoescape(["html.j2"])
    templates = Environment(loader=loader, autoescape=escaped, undefined=StrictUndefined, trim_blocks=True)
    contents = {
        "title": title,
        "measure": first.rows[0].measure,
        "runs": runs,
        "pictures": pictures,
        "summary": summary_grid(runs),
        "published": published_grid(runs, finals) if finals else None,
        "forgotten": forgetting_grid(runs),
        "base64": lambda path: base64.b64encode(path.read_bytes()).decode(),
        "heat": heat,
        "percent": percent,
        "configuration": configuration_grid,
    }
    texts = [out / name for name in ("report.html", "report.md")]
    for path in texts:
        with atomic_write(path) as file:
            file.write(templates.get_template(f"{path.name}.j2").render(contents).encode())
    if options.tensorboard:
        for name, rows in curves.items():
            write_curves(options.tensorboard / file_name(name), rows, first.num_first)
    return texts + pictures


def file_name(name: str) -> str:
    """That of a run as a part of a path: a journal may say anything."""
    return re.sub(r"[^\w ,.=-]|^\.+", "_", name)[:LONGEST_NAME]


def summary_grid(runs: Sequence[Run]) -> Grid:
    """A row per run, in percent."""
    cells = [[run.name, str(run.rows[-1].step), *map(percent, run.figures.values())] for run in runs]
    return Grid(["run", "step", *runs[0].figures], cells, left=1)


def published_grid(runs: Sequence[Run], finals: Mapping[str, float]) -> Grid:
    """mIoU of all classes after the last step: that of the runs, and that of each published method."""
    cells = [[run.name, "here", percent(run.figures["all"])] for run in runs]
    cells += [[method, "published", percent(value)] for method, value in finals.items()]
    return Grid(["run or method", "measured", "all"], cells, left=2)


def forgetting_grid(runs: Sequence[Run]) -> Grid:
    """A row per class that was known before the last step: how far it fell from its best, in points."""
    cells, columns = [], np.stack([forgetting(run.rows) for run in runs], axis=1)
    for name, step, fallen in zip(runs[0].class_names, runs[0].arrival, columns, strict=True):
        if not np.isnan(fallen).all():
            cells.append([name, str(step), *(percent(value, 1) for value in fallen)])
    return Grid(["class", "arrives in step", *(run.name for run in runs)], cells, left=1)


def configuration_grid(run: Run) -> Grid:
    """A row per option."""
    return Grid(["option", run.name], [[str(word) for word in pair] for pair in run.config.items()], left=2)


def write_heat_map(path: Path, run: Run) -> None:
    """The figure of each class, a column, after each step, a row."""
    figure = heat_map(class_matrix(run.rows), [f"step {row.step}" for row in run.rows], run.class_names)
    figure.axes[0].set_title(run.name, loc="left", color=INK)
    save_figure(figure, path)


def write_curves(folder: Path, rows: Sequence[Row], num_first: int) -> None:
    """The curves of a run for TensorBoard: test/mIoU, or top-1, as run.py has it, and the groups of classes."""
    *groups, (_, overall) = curve_groups(num_first, rows[0].num_classes)
    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for title, figure_of in [(rows[0].measure.overall, overall), *groups]:
                writer.add_scalar(f"test/{title.split('  ')[0]}", figure_of(row), row.step)


if __name__ == "__main__":
    sys.exit(main())
