"""FT, fine-tuning: plain cross entropy and nothing against forgetting. The naive bound, and the file to copy.

    L = L_ce                                                                                        (METHODS 1)

Objects of old and future classes are labelled background, and are trained as background. Between steps: the network
trains on as it is, with one more classifier, whose weights start at random.
"""

from torch import Tensor

from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy
from segmentation_module import SegOutput


class FT(Method):
    """Cross entropy on the new labels."""

    Config = MethodConfig
    serves = ("classes", "domains", "images")
    by_image = True

    @property
    def needs_teacher(self) -> bool:
        """Only for `--pod`."""
        return self.config.pod != "none"

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce"}"""
        return {"ce": cross_entropy(student.logits, batch.labels)}
