"""Executable claims about the losses of autoencoders, which you run against your training stack."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeclaims.anatomy.explain import explain as explain
    from aeclaims.anatomy.records import Anatomy as Anatomy
    from aeclaims.backends import Backend as Backend
    from aeclaims.backends import Tolerance as Tolerance
    from aeclaims.backends import train as train
    from aeclaims.dtypes import FORMATS as FORMATS
    from aeclaims.errors import AeclaimsError as AeclaimsError
    from aeclaims.errors import ClaimFailed as ClaimFailed
    from aeclaims.errors import InvalidBackend as InvalidBackend
    from aeclaims.errors import InvalidData as InvalidData
    from aeclaims.errors import InvalidExperiment as InvalidExperiment
    from aeclaims.errors import InvalidList as InvalidList
    from aeclaims.errors import InvalidOptimizer as InvalidOptimizer
    from aeclaims.errors import InvalidRows as InvalidRows
    from aeclaims.errors import InvalidRun as InvalidRun
    from aeclaims.errors import NotSupported as NotSupported
    from aeclaims.errors import OutOfRange as OutOfRange
    from aeclaims.errors import UnknownBackend as UnknownBackend
    from aeclaims.experiment import IDENTITY as IDENTITY
    from aeclaims.experiment import RELU as RELU
    from aeclaims.experiment import SGD as SGD
    from aeclaims.experiment import SIGMOID as SIGMOID
    from aeclaims.experiment import TANH as TANH
    from aeclaims.experiment import Activation as Activation
    from aeclaims.experiment import Adam as Adam
    from aeclaims.experiment import Bernoulli as Bernoulli
    from aeclaims.experiment import Beta as Beta
    from aeclaims.experiment import Experiment as Experiment
    from aeclaims.experiment import FixedRows as FixedRows
    from aeclaims.experiment import Model as Model
    from aeclaims.experiment import Redundant as Redundant
    from aeclaims.experiment import Uniform as Uniform
    from aeclaims.experiment import affine as affine
    from aeclaims.experiment import leaky_relu as leaky_relu
    from aeclaims.experiment import mlp as mlp
    from aeclaims.judging.claim import Claim as Claim
    from aeclaims.judging.claim import claim as claim
    from aeclaims.judging.claim import conformance as conformance
    from aeclaims.judging.judge import Judge as Judge
    from aeclaims.judging.judge import Proportion as Proportion
    from aeclaims.judging.judge import Verdict as Verdict
    from aeclaims.run import Run as Run
    from aeclaims.start import LayerParameters as LayerParameters
    from aeclaims.start import Start as Start
    from aeclaims.theory import floors as floors

# Import names on first use: an import of the package is free, and costs torch and numba only if you use them.
_HOMES = {
    "aeclaims.anatomy.records": ("Anatomy",),
    "aeclaims.anatomy.explain": ("explain",),
    "aeclaims.backends": ("Backend", "Tolerance", "train"),
    "aeclaims.dtypes": ("FORMATS",),
    "aeclaims.errors": (
        "AeclaimsError",
        "ClaimFailed",
        "InvalidBackend",
        "InvalidData",
        "InvalidExperiment",
        "InvalidList",
        "InvalidOptimizer",
        "InvalidRows",
        "InvalidRun",
        "NotSupported",
        "OutOfRange",
        "UnknownBackend",
    ),
    "aeclaims.experiment": (
        "IDENTITY",
        "RELU",
        "SGD",
        "SIGMOID",
        "TANH",
        "Activation",
        "Adam",
        "Bernoulli",
        "Beta",
        "Experiment",
        "FixedRows",
        "Model",
        "Redundant",
        "Uniform",
        "affine",
        "leaky_relu",
        "mlp",
    ),
    "aeclaims.judging.claim": ("Claim", "claim", "conformance"),
    "aeclaims.judging.judge": ("Judge", "Proportion", "Verdict"),
    "aeclaims.run": ("Run",),
    "aeclaims.start": ("LayerParameters", "Start"),
}

__all__ = ["__version__", "floors", *(name for names in _HOMES.values() for name in names)]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name == "floors":
        return importlib.import_module("aeclaims.theory.floors")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("aeclaims")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
