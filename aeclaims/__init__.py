"""Executable claims about the losses of autoencoders, which you run against your training stack."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeclaims.anatomy.explain import explain as explain
    from aeclaims.backends import Backend as Backend
    from aeclaims.backends import Tolerance as Tolerance
    from aeclaims.backends import UnknownBackend as UnknownBackend
    from aeclaims.backends import train as train
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
    from aeclaims.experiment import InvalidExperiment as InvalidExperiment
    from aeclaims.experiment import Model as Model
    from aeclaims.experiment import Redundant as Redundant
    from aeclaims.experiment import Uniform as Uniform
    from aeclaims.experiment import affine as affine
    from aeclaims.experiment import layers as layers
    from aeclaims.experiment import leaky_relu as leaky_relu
    from aeclaims.run import InvalidRun as InvalidRun
    from aeclaims.run import Run as Run
    from aeclaims.start import LayerParameters as LayerParameters
    from aeclaims.start import Start as Start

# Import names on first use. If this package is installed, every pytest run loads it for the plugin.
_HOMES = {
    "aeclaims.backends": ("Backend", "Tolerance", "UnknownBackend", "train"),
    "aeclaims.experiment": (
        "IDENTITY", "RELU", "SGD", "SIGMOID", "TANH", "Activation", "Adam", "Bernoulli", "Beta", "Experiment", "FixedRows",
        "InvalidExperiment", "Model", "Redundant", "Uniform", "affine", "layers", "leaky_relu",
    ),
    "aeclaims.anatomy.explain": ("explain",),
    "aeclaims.run": ("InvalidRun", "Run"),
    "aeclaims.start": ("LayerParameters", "Start"),
}  # fmt: skip

__all__ = [name for names in _HOMES.values() for name in names]  # pyright: ignore


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
