"""The losses of the last iterations, kept on the device."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.distributed import all_gather
from utils.optim import GRADIENT


class Fault(NamedTuple):
    """A loss, or the gradient, that was not finite."""

    iterations_ago: int
    process: int
    term: str
    value: float


class LossMeter:
    """The losses of the last iterations; the host waits for the device only in `faults` and `means`."""

    def __init__(self) -> None:
        self.terms: list[str] = []
        self.rows: list[Tensor] = []
        self.judged = 0
        self.bad: set[int] = set()

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one iteration's losses, 0-d each; the terms are always the same."""
        self.terms = [*losses]
        self.rows.append(torch.stack([value.detach().double() for value in losses.values()]))

    def faults(self) -> list[Fault]:
        """What was not finite in any process since the last call, the earliest first."""
        start, self.judged = self.judged, len(self.rows)
        if start == len(self.rows):
            return []
        table = all_gather(torch.stack(self.rows[start:])).cpu()
        found = [(start + row, process, term) for process, row, term in torch.nonzero(~table.isfinite()).tolist()]
        self.bad |= {row for row, _, _ in found}
        return [
            Fault(len(self.rows) - 1 - row, process, self.terms[term], table[process, row - start, term].item())
            for row, process, term in sorted(found)
        ]

    def means(self) -> dict[str, float]:
        """Mean per iteration of each loss and of their total, over all processes, without the iterations that
        `faults` named; then start anew. Empty if nothing is left."""
        rows = [row for number, row in enumerate(self.rows) if number not in self.bad]
        means = all_gather(torch.stack(rows).mean(0)).mean(0).tolist() if rows else []
        self.rows, self.judged, self.bad = [], 0, set()
        named = {name: value for name, value in zip(self.terms, means, strict=False) if name != GRADIENT}
        return named | ({"total": sum(named.values())} if named else {})

    def state_dict(self) -> dict[str, Any]:
        """What this process has to keep between two calls of `means`."""
        return {"terms": self.terms, "rows": [row.tolist() for row in self.rows], "bad": sorted(self.bad)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Resume from a state of which all was judged."""
        self.terms, self.bad = state["terms"], set(state["bad"])
        self.rows = [torch.tensor(row, dtype=torch.float64, device=device) for row in state["rows"]]
        self.judged = len(self.rows)
