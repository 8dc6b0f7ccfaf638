"""The journal of a run, beside its results table: a line of JSON for all that was measured, for other programs.

`DATE_DATASET_TASK_NAME.jsonl`. Each line has `event` and `time` (seconds since 1970). Events: `run` (what ran: data
set, task, class names, options), `losses` (step, iteration, lr and each loss), `validation` (step, epoch and scores)
and `test` (step, scores and the IoU of each class). Figures are fractions of 1; null stands for none.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import atomic_write

Event = dict[str, Any]


class Journal:
    """Writes to `path`; `about` is what its `run` event says, before any other."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.about = about
        self._introduced = False

    def write(self, event: str, **facts: Any) -> None:
        """Add a line. OSError where that cannot be done."""
        if not self._introduced:
            # Not before it is needed: a run that is refused leaves no file.
            self._introduced = True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.drop(lambda _: False)
            self.write("run", **self.about)
        line = json.dumps({"event": event, "time": round(time.time(), 3)} | plain(facts), allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def drop(self, unwanted: Callable[[Event], bool]) -> None:
        """Remove the lines of events that are `unwanted`, because they will come again; and one that was cut off."""
        if not self.path.exists():
            return
        events = read_journal(self.path)
        kept = [event for event in events if not unwanted(event)]
        if len(kept) < len(events) or not self.path.read_bytes().endswith(b"\n"):
            with atomic_write(self.path, "w") as file:
                file.writelines(json.dumps(event) + "\n" for event in kept)


def read_journal(path: Path) -> list[Event]:
    """The events of the file, but for a last line that was cut off. UserError where it is no journal."""
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
        events = [json.loads(line) for line in whole]
    except ValueError as error:
        raise UserError(f"{path} is no journal of a run: {error}; move it away, and the run writes a new one") from None
    for number, event in enumerate(events, start=1):
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise UserError(f"{path}, line {number}: no event; move the file away, and the run writes a new one")
    return events


def plain(value: Any) -> Any:
    """What JSON knows: NaN becomes null, and what is neither figure nor text its spelling."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
