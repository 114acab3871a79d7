"""Faults of the forward pass: activations, weights and inputs that differ from the model's."""

from __future__ import annotations

from typing import Any

from aeclaims.experiment import RELU, SIGMOID, affine, leaky_relu
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import functional
from aeclaims.selftest.faults.patches import LINEAR, every, given, populations, replaced, returning
from aeclaims.selftest.faults.probes import hidden, short, trained, with_slope

LEAKY, TANH, SIG = "torch.nn.functional.leaky_relu", "torch.tanh", "torch.sigmoid"
logits = trained(short(loss="bce_logits"))


def slope_ignored(stock: Any) -> Any:
    return lambda values, negative_slope=0.01, inplace=False: stock(values, 0.01, inplace)


def stale_weights(population: Any) -> None:
    """Compute losses from parameters that are copied every ten calls; gradients still go to the trained parameters."""
    stock, kept, calls = population.losses, {}, 0

    def losses(parameters: Any, batch: Any) -> Any:
        nonlocal kept, calls
        if calls % 10 == 0:
            kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        calls += 1
        return stock({name: kept[name] + (own - own.detach()) for name, own in parameters.items()}, batch)

    population.losses = losses


def previous_input(stock: Any, last: Any, network: Any, batch: Any) -> Any:
    is_alike = last and last[1].shape == batch.shape and last[0] is network
    return stock(network, last[1] if is_alike else batch)


def without_last_bias(population: Any) -> None:
    stock = population.losses

    def losses(parameters: Any, batch: Any) -> Any:
        *_, name = parameters
        return stock({**parameters, name: parameters[name] * 0}, batch)

    population.losses = losses


FAULTS = (
    Fault("fwd.leaky_slope_001", "leaky ReLU ignores its slope and takes 0.01", "a default for an argument; DeepCrime ACH",
          "a slightly higher floor, slower for deep networks", replaced(slope_ignored, LEAKY), trained(hidden(leaky_relu(0.1)))),
    Fault("fwd.double_sigmoid", "the sigmoid is applied twice, in the model and in the loss", "forum classic; DeepCrime AAL",
          "BCE far above its floor: outputs stay in [0.5, 0.73]", replaced(
              given(lambda z: functional.sigmoid(z)), "torch.nn.functional.binary_cross_entropy_with_logits"), logits),
    Fault("fwd.bias_frozen_zero_grad", "biases receive no gradient", "#183825, gradients of layer_norm on MPS",
          "slower; late seeds", replaced(lambda stock: lambda x, w, b=None: stock(x, w, None if b is None else b.detach()),
          LINEAR), trained()),
    Fault("fwd.stale_weights", "the forward pass uses weights of up to ten steps ago", "#65766, #158232, autocast's cache",
          "delayed gradients: swings, a slower tail", populations(stale_weights), trained()),
    Fault("fwd.stale_input", "once in 50 steps the model sees the minibatch before, the loss this one", "#114844, stale buffers",
          "a loss of 2 Var(x) every 50 steps", replaced(every(50, previous_input), "torch.nn.Sequential.forward"),
          trained(short(epochs=20)), backend="torch-loop"),
    Fault("fwd.tanh_coarse", "tanh is off by 1e-5", "reasoning: an approximation with few terms",
          "a floor of 1e-10 for deep runs", replaced(returning(lambda y: y * (1 + 1e-5)), TANH), trained(hidden())),
    Fault("fwd.hard_sigmoid", "the sigmoid is its piecewise linear approximation", "DeepCrime ACH; Keras' hard_sigmoid",
          "log-loss of other probabilities", replaced(lambda stock: functional.hardsigmoid, SIG), trained(
              short(model=affine(3, 3, 3, output=SIGMOID)))),
    Fault("fwd.relu6", "ReLU is cut off at 6", "DeepCrime ACH; kernels for phones", "none before activations reach 6",
          replaced(lambda stock: lambda x, inplace=False: functional.hardtanh(x, 0.0, 6.0), "torch.nn.functional.relu"),
          with_slope("ReLU", [-1.0, 3.0, 7.0])),
    Fault("fwd.relu_leaks", "ReLU passes 1e-4 of negative numbers", "reasoning: ReLU and leaky ReLU share a kernel",
          "dead units live on", replaced(lambda stock: lambda x, inplace=False: functional.leaky_relu(x, 1e-4),
                                         "torch.nn.functional.relu"), trained(hidden(RELU))),
    Fault("fwd.last_bias_dropped", "the bias of the last layer is not added", "DeepCrime WRB; a kernel without its epilogue",
          "an affine model learns it in the other layers", populations(without_last_bias), trained()),
)  # fmt: skip
