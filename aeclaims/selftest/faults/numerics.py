"""Faults of arithmetic: fewer bits than the dtype has."""

from __future__ import annotations

from typing import Any

from aeclaims.experiment import RELU, leaky_relu
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import LINEAR, forwarded, replaced, returning
from aeclaims.selftest.faults.probes import called, hidden, trained

MATMUL, BMM = "torch.Tensor.__matmul__", "torch.bmm"


def rounded(values: Any, bits: int) -> Any:
    """Round values to a significand of so many bits (Veltkamp), with the gradient of the unrounded values."""
    whole = {torch.float32: 24, torch.float64: 53}[values.dtype]
    large = values.detach() * (2.0 ** (whole - bits) + 1)
    return forwarded(large - (large - values.detach()), values)


def in_products(bits: int) -> Any:
    """Round the operands of matrix products."""
    return replaced(lambda stock: lambda a, b, *rest: stock(rounded(a, bits), rounded(b, bits), *rest), LINEAR, MATMUL)


def product_of_bmm() -> Any:
    return torch.rand(2, 3, 3) @ torch.rand(2, 3, 3)


FAULTS = (
    Fault("num.tf32_matmul", "operands of products are rounded to TF32, 11 bits", "#67384, #53635, #78275, #84334",
          "forward off by 5e-4; floors of 1e-8", in_products(11), trained()),
    Fault("num.bf16_matmul", "operands of products are rounded to bfloat16, 8 bits", "#83863, #95125; mkldnn's defaults",
          "forward off by 4e-3; floors of 1e-6", in_products(8), trained()),
    Fault("num.products_18_bits", "operands of products are rounded to 18 bits",
          "reasoning: emulated in three products of bfloat16",
          "forward off by 4e-6; floors of 1e-11", in_products(18), trained()),
    Fault("num.matmul_only", "operands of a @ b, but not of layers, are rounded to TF32", "#67384: one flag for each of the two",
          "none for models of layers", replaced(lambda stock: lambda a, b: stock(rounded(a, 11), rounded(b, 11)), MATMUL),
          called(product_of_bmm)),
    Fault("num.layers_in_fp16", "outputs of layers are rounded to float16", "autocast left on; #65766 family",
          "floors of 1e-7", replaced(returning(lambda y: forwarded(y.half().to(y.dtype), y)), LINEAR), trained()),
    Fault("num.small_outputs_flushed", "outputs of layers below 1e-3 are zero", "reasoning: sparsity by a threshold",
          "rarely met; dead units", replaced(returning(lambda y: y.where(y.abs() > 1e-3, 0.0)), LINEAR),
          trained(hidden(leaky_relu(0.1)))),
    Fault("num.relu_in_bf16", "ReLU goes through bfloat16", "#95125 family, a kernel that lacks a dtype",
          "activations off by 0.4 %",
          replaced(returning(lambda y: forwarded(y.bfloat16().to(y.dtype), y)), "torch.nn.functional.relu"),
          trained(hidden(RELU))),
)  # fmt: skip
