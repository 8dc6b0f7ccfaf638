"""The methods by name. A new one is a file beside this one and a line here."""

from collections.abc import Callable
from typing import Any

from config import option_fields
from methods.base import Method, MethodConfig
from methods.cfsseg import CFSSeg
from methods.dkd import DKD, DKD_M
from methods.ewc import EWC
from methods.ewf import EWF
from methods.features import FeatureConfig
from methods.finetune import FT
from methods.ilt import ILT
from methods.lgkd import LGKD
from methods.lwf import LWF
from methods.lwf_mc import LWFMC
from methods.mib import MiB
from methods.pi import PI
from methods.plop import PLOP
from methods.rcil import RCIL
from methods.rw import RW
from methods.sdr import SDR
from methods.ssul import SSUL, SSUL_M
from methods.st import ST
from methods.star import STAR, STAR_M
from methods.ucd import UCD
from tasks import SETTINGS

PARTS: dict[str, Callable[[type], bool]] = {
    "a base class Method": lambda m: issubclass(m, Method),
    "a docstring": lambda m: bool(m.__doc__),
    "Config, a dataclass based on MethodConfig": lambda m: (
        issubclass(config := vars(m).get("Config", object), MethodConfig) and "__dataclass_fields__" in vars(config)
    ),
    "serves, a tuple of classes, domains and images, or some of them": lambda m: (
        isinstance(serves := vars(m).get("serves"), tuple) and bool(serves) and {*serves} <= {*SETTINGS.values()}
    ),
    "reason, why it does not serve all settings": lambda m: (
        {*vars(m).get("serves", ())} == {*SETTINGS.values()} or bool(vars(m).get("reason"))
    ),
    "losses": lambda m: getattr(m, "losses", Method.losses) is not Method.losses,
    "phases, one or more different names": lambda m: 0 < len(phases := getattr(m, "phases", ())) == len({*phases}),
}
"""What each method has to say itself, and whether it does."""


def whole(methods: dict[str, type[Method]]) -> dict[str, type[Method]]:
    """`methods` as they are. TypeError, naming what lacks, where one of them leaves a part of the interface unsaid."""
    for name, method in methods.items():
        if lacks := [part for part, is_there in PARTS.items() if not is_there(method)]:
            raise TypeError(f"method {name} lacks {'; '.join(lacks)}: see Method in methods/base.py")
    return methods


METHODS = whole(
    {
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
        "LGKD": LGKD,
        "DKD": DKD,
        "DKD-M": DKD_M,
        "STAR": STAR,
        "STAR-M": STAR_M,
        "CFSSeg": CFSSeg,
        "EWF": EWF,
        "UCD": UCD,
        "SSUL": SSUL,
        "SSUL-M": SSUL_M,
        "SDR": SDR,
        "ST": ST,
    }
)


def config_of(name: str, base: str | None = None) -> type[MethodConfig]:
    """Options and presets of the method `name`, on `base` where it adds to another one."""
    method = METHODS[name]
    return method.bases.get(base, method.Config)


def configs_of(name: str) -> dict[str, type[MethodConfig]]:
    """Options and presets of the method `name` by how it is typed: of several where it has several bases."""
    method = METHODS[name]
    return {f"{name} --base {base}": config for base, config in method.bases.items()} or {name: method.Config}


def preset(config: type[MethodConfig], dataset: str, task: str, pod: str) -> dict[str, Any]:
    """Values of the published runs of the method with `config` by option name.

    Where `pod` is not the method's own distillation of features, its factors are those of the first method whose own it
    is.
    """
    values = config.preset(dataset, task)
    owner = next((other.Config for other in METHODS.values() if other.Config.pod == pod), config)
    if config.pod != pod:
        names = {spec.name for spec in option_fields(FeatureConfig)} - {"pod"}
        values |= {n: v for n, v in owner.preset(dataset, task).items() if n in names}
    return values
