"""A report of one run or of several of one task: a page with curves, heat maps, tables and pictures, and its parts.

    python tools/report.py results/2026-01-31_voc_15-1_RCIL.csv [results/2026-01-31_voc_15-1_FT.csv ...] --out report

Writes report.html, which needs nothing else and no network, report.md, curves.png, a heatmap_NAME.png per run, and
strip.png where the runs have pictures. Configuration, class names and pictures come from the journal beside each
table. Published figures of the same setting stand beside yours.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics.board import Board
from metrics.figures import curve, curve_groups
from metrics.history import draw_strip
from metrics.pictures import save_picture
from tools.compare_csv import short_names
from tools.reporting.charts import draw_heat_map
from tools.reporting.page import markdown, render
from tools.reporting.published import published_finals, published_runs
from tools.reporting.runs import Run, read_run, require_one_task
from utils.errors import UserError, one_line
from utils.files import atomic_write


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; 2 if a file does not serve."""
    parser = argparse.ArgumentParser(description="Report one run, or several of one task.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results/DATE_DATASET_TASK_NAME.csv")
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR", help="folder [report]")
    parser.add_argument("--title", default="", help="of the page")
    text = "classes of step 0, background included (default: from its row)"
    parser.add_argument("--first", type=int, metavar="N", help=text)
    text = "leave out the published figures of the same setting"
    parser.add_argument("--no_published", action="store_true", help=text)
    text = "also write the curves for TensorBoard, a folder per run, under the tags of run.py"
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help=text)
    options = parser.parse_args(arguments)
    try:
        runs = [read_run(path, options.first) for path in options.files]
        require_one_task(runs)
        for path in write(_told_apart(runs, options.files), options):
            print(path)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or options.out}", file=sys.stderr)
        return 2
    return 0


def write(runs: Sequence[Run], options: argparse.Namespace) -> list[Path]:
    """Write all files of the report; their paths, that of the page first."""
    out, first = options.out, runs[0]
    setting = first.dataset, first.task, first.scenario
    references = {} if options.no_published else published_runs(*setting)
    # A report of the authors' own runs shows each once.
    references = {name: rows for name, rows in references.items() if all(rows != run.rows for run in runs)}
    finals = {} if options.no_published else published_finals(*setting)
    title = options.title or " ".join(filter(None, setting)) or "Report"
    curves = {run.name: [run.rows] for run in runs} | {name: [rows] for name, rows in references.items()}
    pictures = ["curves.png"]
    curve(out / "curves.png", curves, first.num_first, title)
    for run in runs:
        pictures.append(f"heatmap_{run.name.replace('/', '_')}.png")
        draw_heat_map(out / pictures[-1], run)
    if histories := {run.name: run.samples for run in runs if run.samples}:
        pictures.append("strip.png")
        save_picture(draw_strip(histories, first.palette, first.class_names), out / "strip.png")
    texts = {
        "report.html": render(title, runs, references, finals),
        "report.md": markdown(title, runs, finals, pictures),
    }
    for name, text in texts.items():
        with atomic_write(out / name) as file:
            file.write(text.encode())
    if options.tensorboard:
        for name, (rows,) in curves.items():
            _show(options.tensorboard / name, rows, first.num_first)
    return [out / name for name in (*texts, *pictures)]


def _told_apart(runs: Sequence[Run], paths: Sequence[Path]) -> list[Run]:
    """The runs with names that differ."""
    if len({run.name for run in runs}) == len(runs):
        return list(runs)
    return [replace(run, name=name) for run, name in zip(runs, short_names(paths), strict=True)]


def _show(folder: Path, rows: Sequence, num_first: int) -> None:
    """The curves of a run for TensorBoard: test/mIoU as run.py has it, and the groups of classes."""
    *groups, _ = curve_groups(num_first, rows[0].num_classes)
    with Board(folder) as board:
        for row in rows:
            board.scalars({"mIoU": row.mean_iou}, row.step, group="test")
            board.scalars({title.split("  ")[0]: of(row) for title, of in groups}, row.step, group="test")


if __name__ == "__main__":
    sys.exit(main())
