"""A trained network to the Hugging Face Hub, with a model card, and back.

    python tools/hub.py push USER/NAME --ckpt checkpoints/step/15-1-voc_mine_5.pth --results results/TABLE.csv
    python tools/hub.py fetch USER/NAME

`push` uploads model.safetensors, the merged network that tools/predict.py and hubconf.py read; README.md, a model card
written from the checkpoint and the results table; and that table with the options of the run, but for its paths. With
--out DIR they are written there, and nothing is uploaded. `fetch` downloads the network to
checkpoints/hub/USER/NAME.

Both need the package huggingface_hub, which knows where the Hub is (HF_ENDPOINT) and who you are (HF_TOKEN, or
`hf auth login`). Exit code 2: bad input, or the Hub does not answer as it should.
"""

import argparse
import importlib
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from argparser import build_parser
from config_file import read_config, write_config
from metrics.results import Row, figures
from metrics.scores import MIOU
from metrics.tables import Grid, percent, run_table
from segmentation_module import heads_of
from tools.export import write_weights
from tools.reporting.runs import Run, read_run
from trained import TrainedNetwork, add_checkpoint_options, load_named, load_trained
from utils.errors import UserError, exit_code, spelled_out
from utils.files import atomic_path, atomic_write, read_text
from utils.options import ToolParser, a_path
from utils.versions import ROOT, commit, own_version

WEIGHTS, CARD = "model.safetensors", "README.md"
"""Names that the Hub knows."""
TEMPLATE = Path(__file__).with_name("reporting") / "model_card.md.j2"
METRIC = {MIOU: "mean_iou"}
"""The Hub's names of our measures; it calls any other accuracy."""
LONGEST_REASON = 300
"""Characters of what the Hub says that are shown."""


def push(options: argparse.Namespace) -> None:
    """Write the files, and upload them unless --out is given. UserError for bad input."""
    hub = library()
    with of_the_hub(options.repo):
        importlib.import_module("huggingface_hub.utils").validate_repo_id(options.repo)
    if options.out and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file; name a folder")
    trained = load_named(options, finished=True)
    run, copied, config = None, [], {}
    if options.results:
        run = read_run(options.results)
        require_same_run(run, trained, options.ckpt)
        copied.append(run.path)
        if (file := run.path.with_suffix(".yaml")).is_file():
            config[file.name] = without_paths(read_config(file, build_parser()))
    if options.with_checkpoint:
        copied.append(options.ckpt)
    card = model_card(hub, trained, run, options, config=next(iter(config), ""))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        write_weights(trained, folder / WEIGHTS)
        with atomic_write(folder / CARD, "w") as file:
            file.write(card)
        for path in copied:
            with atomic_path(folder / path.name) as copy:
                shutil.copyfile(path, copy)
        for name, of_run in config.items():
            write_config(folder / name, of_run)
        names = ", ".join((WEIGHTS, CARD, *(path.name for path in copied), *config))
        if options.out:
            print(f"{folder}: {names}; nothing was uploaded")
            return
        with of_the_hub(options.repo):
            hub.create_repo(options.repo, private=options.private or None, exist_ok=True)
            done = hub.upload_folder(repo_id=options.repo, folder_path=folder, commit_message=f"Step {trained.step}")
    print(f"{names}: {done.commit_url}")


def fetch(options: argparse.Namespace) -> None:
    """Download a file into the cache of the library, read it, and copy it to --out.

    UserError where it is not there, or no network of ours.
    """
    hub = library()
    with of_the_hub(options.repo):
        cached = Path(hub.hf_hub_download(options.repo, options.file, revision=options.revision))
    trained = load_trained(cached)
    path = (options.out or Path("checkpoints", "hub", options.repo)) / cached.name
    with atomic_path(path) as copy:
        shutil.copyfile(cached, copy)
    print(f"{path}: step {trained.step} of {trained.dataset}, {len(trained.labels)} classes")


def library() -> Any:
    """huggingface_hub. UserError where it is not installed."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise UserError("the package huggingface_hub is not installed: pip install huggingface_hub") from None


@contextmanager
def of_the_hub(repo: str) -> Iterator[None]:
    """What the library raises in the block, as a UserError about `repo`."""
    try:
        yield
    except Exception as error:  # also those of its HTTP client, which is another one from version to version
        reason = spelled_out(" ".join(f"{error}".split()))[:LONGEST_REASON] or type(error).__name__
        raise UserError(f"{repo}: {reason}; see HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE") from None


def require_same_run(run: Run, trained: TrainedNetwork, path: Path) -> None:
    """UserError where the results table is of another run than the checkpoint at `path`, as far as both say."""
    names = [spelled_out(name) for name in trained.class_names]
    named = not run.class_names[0].startswith("class ")
    settings = trained.checkpoint["trainer_state"].get("settings", {})
    for what, of_table, of_network in (
        ("data set", run.dataset, trained.dataset),
        ("scenario", run.scenario, trained.identity.get("scenario")),
        ("method", run.config.get("method"), settings.get("method")),
        ("classes", named and run.class_names[: len(names)], names),
    ):
        if of_table and of_network and of_table != of_network:
            said = f": {of_table}, not {of_network}" if isinstance(of_table, str) else ""
            raise UserError(f"--results {run.path} is of another {what} than {path}{said}; name that of the same run")
    if not any(row.step == trained.step and len(row.per_class) == len(names) for row in run.rows):
        raise UserError(f"--results {run.path} has no row of step {trained.step} with {len(names)} classes: test it")


def without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Options that mean the same on another machine; numbers and words."""
    return {name: value for name, value in config.items() if not isinstance(value, Path)}


def model_card(hub: Any, trained: TrainedNetwork, run: Run | None, options: argparse.Namespace, *, config: str) -> str:
    """README.md: front matter that the Hub reads, and a page that people do; `config` is the file of options."""
    rows = [row for row in run.rows if row.step <= trained.step] if run else []
    identity, settings = trained.identity, trained.checkpoint["trainer_state"].get("settings", {})
    kind = "classification" if identity["head"] == "pool" else "segmentation"
    words = trained.dataset, run.task if run else "", str(identity.get("scenario", ""))
    setting, method = spelled_out(" ".join(filter(None, words))), str(settings.get("method", ""))
    tags = ["pytorch", "continual-learning", "class-incremental-learning", f"image-{kind}", method.lower()]
    data = hub.ModelCardData(
        license=options.license,
        library_name="rcil",
        pipeline_tag=f"image-{kind}",
        tags=[*filter(None, tags)],
        metrics=[metric_of(rows[0])] if rows else None,
        model_name=options.repo.split("/")[-1],
        eval_results=scores(hub, rows, run.num_first, f"image-{kind}", setting) if rows else None,
    )
    card = hub.ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        repo=options.repo,
        kind=kind,
        setting=setting,
        method=method,
        trained=trained,
        version=f"{own_version()}{commit()}",
        measure=rows[0].measure.overall if rows else "",
        results=run_table(rows, run.num_first) if rows else None,
        table=run.path.name if run else "",
        classes=classes_grid(trained, rows[-1] if rows else None),
        config=config,
        options=options_grid(trained),
        bibtex=bibtex(),
    )
    return f"{card}\n"


def metric_of(row: Row) -> str:
    """The Hub's name of what is measured."""
    return METRIC.get(row.measure, "accuracy")


def scores(hub: Any, rows: Sequence[Row], num_first: int, task: str, setting: str) -> list[Any]:
    """The model index: the figures after the last step, fractions of 1 as the Hub has them."""
    found = figures(rows, num_first)
    names = {"all": "all classes", "old": "classes of step 0", "new": "classes of later steps"}
    data_set = {"dataset_type": setting.split()[0], "dataset_name": setting}
    of_task = {"task_type": task, **data_set, "metric_type": metric_of(rows[-1])}
    overall = rows[-1].measure.overall
    return [
        hub.EvalResult(**of_task, metric_name=f"{overall}, {title}", metric_value=round(found[name], 4))
        for name, title in names.items()
        if not math.isnan(found[name])
    ]


def classes_grid(trained: TrainedNetwork, row: Row | None) -> Grid:
    """A row per output of the network: its class, the step that brought it, and its figure."""
    heads = heads_of(trained.checkpoint["model_state"])
    steps = [str(step) for step, count in enumerate(heads) for _ in range(count)]
    cells = [list(cell) for cell in zip(map(str, trained.labels), trained.class_names, steps, strict=True)]
    header = ["class id", "class", "arrives in step"]
    if row:
        header.append(row.measure.per_class)
        cells = [[*cell, percent(figure)] for cell, figure in zip(cells, row.per_class, strict=True)]
    return Grid(header, cells, left=2)


def options_grid(trained: TrainedNetwork) -> Grid:
    """What the network is, and how it was trained."""
    identity = {name: value for name, value in trained.identity.items() if name not in ("task", "classes")}
    settings = trained.checkpoint["trainer_state"].get("settings", {})
    known = {name: value for name, value in (identity | settings).items() if name != "aux_root" and value is not None}
    return Grid(["option", "value"], [[name, str(value)] for name, value in known.items()], left=2)


def bibtex() -> str:
    """The paper, as CITATION.cff has it."""
    paper = yaml.safe_load(read_text(ROOT / "CITATION.cff", "it comes with the code"))["preferred-citation"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    fields = {"title": paper["title"], "author": authors, "booktitle": paper["collection-title"], "year": paper["year"]}
    lines = "".join(f"  {name} = {{{text}}},\n" for name, text in fields.items())
    return f"@inproceedings{{zhang2022representation,\n{lines}}}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(description="Push a trained network to the Hugging Face Hub, or fetch one.")
    commands = parser.add_subparsers(required=True, metavar="push|fetch")
    sends = commands.add_parser("push", help="upload the network of a step, with a model card")
    gets = commands.add_parser("fetch", help="download one that was pushed")
    for command, work in ((sends, push), (gets, fetch)):
        command.add_argument("repo", metavar="USER/NAME", help="repository of the Hub")
        command.set_defaults(work=work)
    add_checkpoint_options(sends)
    add = sends.add_argument
    add("--results", type=a_path, metavar="FILE", help="results table of the run, DATE_DATASET_TASK_NAME.csv")
    add("--license", default="mit", metavar="ID", help="licence of the weights [%(default)s, that of this code]")
    add("--private", action="store_true", help="make a private repository, where there is none yet")
    add("--with_checkpoint", action="store_true", help="upload the checkpoint, too, for others to train on from it")
    add("--out", type=a_path, metavar="DIR", help="write the files there, and upload nothing")
    add = gets.add_argument
    add("--file", default=WEIGHTS, metavar="NAME", help="[%(default)s]")
    add("--revision", metavar="REV", help="branch, tag or commit [main]")
    add("--out", type=a_path, metavar="DIR", help="folder for it [checkpoints/hub/USER/NAME]")
    options = parser.parse_args(arguments)
    return exit_code(options.work, options)


if __name__ == "__main__":
    sys.exit(main())
