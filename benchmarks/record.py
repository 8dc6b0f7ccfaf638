"""No timing: what every method computes, to the last bit, kept in a small file and compared with it later.

    python -m benchmarks.record                     # compare with benchmarks/record.json
    python -m benchmarks.record --write             # record anew

Each run trains two steps of about 20 iterations on the shapes data set, in fp32, from fixed seeds, with one thread. The
record holds all losses, a digest of the weights and the results table. Other processors and other releases of PyTorch
round otherwise: each has a record of its own. Its entry `before` has the runs that a repair changed, as they were.
Exit code 1 where a run differs, 2 where this machine has no record.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from checkpoints import read_checkpoint
from tools.make_shapes import make_shapes
from utils.checkpoint import fingerprint_of
from utils.files import atomic_write

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("record.json")
NETWORK = "--backbone resnet26 --width 8 --head_channels 16 --no_pretrained --crop_size 64 --batch_size 4"
COMMON = "--num_workers 0 --print_interval 1 --no_visualize --date never --name recorded --step 0 1 --lr 0.02 0.005"
SETTINGS = {
    "voc": "--dataset voc --task 15-1 --overlap --epochs 1 10",
    "disjoint": "--dataset voc --task 15-1 --epochs 1 10",
    "ade": "--dataset ade --task 100-50 --overlap --epochs 1 1",
    "domain": "--dataset cityscapes_domain --task 11-5 --epochs 2 4",
}
IMAGES = {"voc": (96, 24), "ade": (152, 150), "cityscapes": (72, 24)}
BESIDE = {"event", "time", "step", "iteration", "lr"}
SHOWN = 4
"""Totals that the record spells, so that a difference has a place; the digests are of all."""
LAYOUTS = {"voc": "voc", "disjoint": "voc", "ade": "ade", "domain": "cityscapes"}
METHODS = ("FT", "LWF", "LWF-MC", "ILT", "EWC", "RW", "PI", "MiB", "PLOP", "RCIL")
VARIANTS = (
    *(f"voc {method}" for method in METHODS),
    *(f"voc {method} --paper_exact" for method in ("LWF", "LWF-MC", "EWC", "RW", "PI", "MiB", "PLOP", "RCIL")),
    "voc MiB --branches 2",
    "voc EWC --branches 2",
    "voc MiB --pod cube",
    "voc LWF --pod local",
    "voc RCIL --pod none",
    "voc RCIL --no-drop_path",
    "voc RCIL --norm_act std",
    "voc RCIL --output_stride 8 --init_bias --stem_activation",
    "voc PLOP --pseudo naive",
    "voc PLOP --pseudo none",
    "voc PLOP --pseudo median",
    "voc MiB --no-unce --lr_old 0.5",
    "voc FT --freeze --warmup 3",
    "voc FT --fix_bn",
    "disjoint RCIL",
    "disjoint EWC --reg_no_normalize --reg_importance 1",
    "ade RCIL",
    "ade PLOP",
    "domain RCIL",
    "domain PLOP",
    "domain MiB",
)


def record(variant: str, data: Path, work: Path) -> dict[str, Any]:
    """Train what `variant` says, and sum it up."""
    setting, method, *options = variant.split()
    words = [*NETWORK.split(), *COMMON.split(), *SETTINGS[setting].split(), "--method", method, *options]
    for option in ("checkpoint", "logdir", "results_dir"):
        words += [f"--{option}", str(work / option)]
    words += ["--data_root", str(data / LAYOUTS[setting])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, ROOT / "run.py", *words]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{variant}: {done.stderr[-2000:]}")
    (table,) = (work / "results_dir").glob("*.csv")
    events = [json.loads(line) for line in table.with_suffix(".jsonl").read_text().splitlines()]
    rows = [event for event in events if event["event"] == "losses"]
    losses = [{name: row[name] for name in sorted(row.keys() - BESIDE)} for row in rows]
    weights = [read_checkpoint(path, "")[0]["model_state"] for path in sorted((work / "checkpoint").glob("*.pth"))]
    return {
        "totals": [row["total"] for row in losses][:SHOWN],
        "losses": digest(losses),
        "weights": [digest(of_step) for of_step in weights],
        "scores": digest(table.read_text()),
        "mIoU": [float(row.rsplit(",", 1)[1]) for row in table.read_text().splitlines()],
    }


def digest(values: Any) -> str:
    """Twelve digits that stand for `values`, to their last bit."""
    return fingerprint_of(values)[:12]


def record_all(variants: Sequence[str]) -> dict[str, Any]:
    """The record of each variant, in turn."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for layout, (train, val) in IMAGES.items():
            make_shapes(data / layout, layout=layout, train=train, val=val, size=72, seed=7, workers=1)
        for variant in variants:
            work = Path(folder) / variant.replace(" ", "_")
            work.mkdir()
            found[variant] = record(variant, data, work)
            print(f"{variant}: {found[variant]['losses']} {' '.join(found[variant]['weights'])}", flush=True)
    return found


def differences(found: dict[str, Any], kept: dict[str, Any]) -> list[str]:
    """In words, which runs are not as they were; "" for what is."""
    told = []
    for variant, run in found.items():
        before = kept.get(variant)
        if before is None:
            told.append(f"{variant}: not in the record")
        elif unlike := [part for part in run if run[part] != before[part]]:
            pairs = enumerate(zip(run["totals"], before["totals"], strict=False))
            first = next((number for number, (now, then) in pairs if now != then), None)
            where = "" if first is None else f", first in iteration {first + 1}"
            told.append(f"{variant}: other {', '.join(unlike)}{where}")
    return told


def main(arguments: Sequence[str]) -> int:
    """Record, or compare."""
    parser = argparse.ArgumentParser("record", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the record of this machine anew")
    parser.add_argument("--only", nargs="+", default=VARIANTS, metavar="VARIANT", help="some of the runs")
    options = parser.parse_args(arguments)
    records = json.loads(RECORD.read_text())
    here = {name: machine()[name] for name in ("processor", "gpu", "torch")}
    kept = next((record for record in records if record["machine"] == here), {"machine": here, "runs": {}})
    if not kept["runs"] and not options.write:
        print(f"{RECORD} has no record of {here}; write one with --write, from code that is known to be right")
        return 2
    found = record_all(options.only)
    if options.write:
        others = [record for record in records if record["machine"] != here]
        with atomic_write(RECORD, "w") as file:
            file.write(json.dumps([*others, kept | {"runs": kept["runs"] | found}], indent=1) + "\n")
        return 0
    wrong = differences(found, kept["runs"])
    print("\n".join(wrong) or f"{len(found)} runs: identical")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
