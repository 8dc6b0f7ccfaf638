"""What the command lines of the authors' scripts, of PLOP's and of MiB's mean here (SPEC 9)."""

import json
from typing import Any

from utils.errors import UserError

# Options whose work another one does here: what to type in their place, or why nothing is needed.
WITHOUT_EFFECT = {
    "bce": "--method LWF-MC says it",
    "icarl": "--method LWF-MC says it",
    "pod_prepro": "maps are always squared before they are pooled",
    "step_threshold": "the public code never reads it: thresholds stay as without",
}
IGNORED_BY_RCIL = dict.fromkeys(
    ("pod_factor", "pod_options"), "the factors of the pooled cube are --spatial_factors and --channel_factors"
) | {"classif_adaptive_factor": "it weighs pseudo labels, and RCIL has none"}
READ_ELSEWHERE = ("pod_options", "regularizer")
"""Options that are taken apart here, so that no configuration has a field for them."""


def read_authors_spelling(method: str, typed: dict[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """The method and options that a command line means, with notes for the log.

    RCIL's authors spell it also as `--method FT --pod local` with each of its parts as a switch, and `--pod local`
    where the pooled cube loss is meant. UserError for values that cannot be read.
    """
    notes, typed = [], dict(typed)
    if regularizer := typed.pop("regularizer", None):
        if regularizer.upper() not in ("EWC", "RW", "PI"):
            raise UserError(f"--regularizer {regularizer}: choose from ewc, rw, pi")
        method = regularizer.upper() if method == "FT" else method
        notes.append(f"--regularizer {regularizer}: read as --method {method}")
    if typed.get("pod") == "local" and method in ("FT", "RCIL"):
        typed["pod"] = "cube"
        if method == "FT":
            method = "RCIL"
            off = {"unce": False, "unkd": False, "loss_kd": 0.0, "pod_logits": False, "init_balanced": False}
            typed = off | typed
        notes.append(f"--pod local: read as {method} with the pooled cube loss, as the authors' scripts mean it")
    for name, reason in (WITHOUT_EFFECT | (IGNORED_BY_RCIL if method == "RCIL" else {})).items():
        if typed.pop(name, None) is not None:
            notes.append(f"--{name} has no effect: {reason}")
    if (text := typed.pop("pod_options", None)) is not None:
        try:  # PLOP's {"switch": {"after": {"factor": 0.0005, ...}}}
            factor = typed["pod_logits_factor"] = float(json.loads(text)["switch"]["after"]["factor"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"--pod_options {text}: JSON with the factor of the small logits at switch.after.factor is read here; "
                "give it as --pod_logits_factor"
            ) from error
        notes.append(f"--pod_options: read as --pod_logits_factor {factor:g}")
    return method, typed, notes
