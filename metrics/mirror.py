"""What TensorBoard shows, shown by Weights & Biases too, for those who have it: the package is no part of ours."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from utils.errors import UserError, one_line
from utils.log import log


class Mirror:
    """A run of Weights & Biases in the project `rcil`, under the tags of TensorBoard; files in `folder`/wandb.

    Each start of a run is one there, in the group `group`. Raises UserError where the package is missing, or where it
    does not start, say because nobody is logged in.
    """

    def __init__(self, folder: Path, *, name: str, group: str, config: Mapping[str, Any]) -> None:
        self._wandb = require_wandb()
        folder.mkdir(parents=True, exist_ok=True)
        settings = self._wandb.Settings(silent=True)
        values = {option: value if isinstance(value, int | float) else str(value) for option, value in config.items()}
        try:
            self._run = self._wandb.init(
                project="rcil", name=name, group=group, dir=str(folder), config=values, settings=settings
            )
        except self._wandb.Error as error:
            mend = "wandb login, WANDB_MODE=offline, or leave it out"
            raise UserError(f"--wandb: it does not start: {one_line(error)}; {mend}") from None
        self._axes: set[str] = set()
        log.info(f"wandb        {self._run.url or self._run.dir}")

    def scalars(self, values: Mapping[str, float], iteration: int, group: str) -> None:
        """Values by name, as GROUP/NAME over GROUP/iteration: each group has its own axis."""
        self._show({f"{group}/{name}": value for name, value in values.items()}, iteration, group)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """A picture after a step."""
        self._show({f"{name}/picture": self._wandb.Image(image)}, step, name)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()

    def _show(self, values: dict[str, Any], iteration: int, group: str) -> None:
        if group not in self._axes:
            self._axes.add(group)
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/iteration")
        self._run.log(values | {f"{group}/iteration": iteration})


def require_wandb() -> Any:
    """The package. UserError if it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise UserError("--wandb: the package wandb is not installed: pip install wandb, or leave it out") from None
