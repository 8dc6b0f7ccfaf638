"""The methods by name. A new one is a file beside this one and a line here."""

from typing import Any

from methods.base import Method
from methods.finetune import FT
from methods.rcil import RCIL

METHODS: dict[str, type[Method]] = {"FT": FT, "RCIL": RCIL}

# Options in the authors' scripts whose values their RCIL never reads (SPEC 5: its factors are literals there).
WITHOUT_EFFECT = {
    "pod_factor": "the factors of RCIL are --spatial_factors and --channel_factors",
    "pod_options": "the factors of RCIL are --spatial_factors and --channel_factors",
    "classif_adaptive_factor": "it weighs pseudo labels, and RCIL has none",
}


def read_authors_spelling(method: str, typed: dict[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """The method and options that a command line of the authors' scripts means, with notes for the log (SPEC 9).

    They spell RCIL also as `--method FT --pod local` with each of its parts as a switch, and `--pod local` where the
    pooled cube loss is meant.
    """
    notes = []
    typed = dict(typed)
    for name in WITHOUT_EFFECT.keys() & typed.keys():
        del typed[name]
        notes.append(f"--{name} has no effect: {WITHOUT_EFFECT[name]}")
    if typed.get("pod") == "local":
        typed["pod"] = "cube"
        if method == "FT":
            method = "RCIL"
            off = {"unce": False, "unkd": False, "loss_kd": 0.0, "pod_logits": False, "init_balanced": False}
            typed = off | typed
        notes.append(f"--pod local: read as {method} with the pooled cube loss, as the authors' scripts mean it")
    return method, typed, notes
