"""The methods by name. A new one is a file beside this one and a line here."""

from methods.base import Method
from methods.ewc import EWC
from methods.finetune import FT
from methods.ilt import ILT
from methods.lwf import LWF
from methods.lwf_mc import LWFMC
from methods.mib import MiB
from methods.pi import PI
from methods.plop import PLOP
from methods.rcil import RCIL
from methods.rw import RW

METHODS: dict[str, type[Method]] = {
    "FT": FT,
    "LWF": LWF,
    "LWF-MC": LWFMC,
    "ILT": ILT,
    "EWC": EWC,
    "RW": RW,
    "PI": PI,
    "MiB": MiB,
    "PLOP": PLOP,
    "RCIL": RCIL,
}
