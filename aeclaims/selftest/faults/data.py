"""Faults of data: random numbers of another distribution, and rows that differ from the drawn ones."""

from __future__ import annotations

from typing import Any

from aeclaims.experiment import Bernoulli
from aeclaims.selftest.faults.fault import Fault
from aeclaims.selftest.faults.lazy_imports import data, torch
from aeclaims.selftest.faults.patches import POPULATION, given, replaced, returning
from aeclaims.selftest.faults.probes import called, short, trained

RAND, RANDN, BERNOULLI = "torch.rand", "torch.randn", "torch.bernoulli"
drawn = called(lambda: torch.rand(64))
stacked = called(lambda: (torch.rand(3, 2, 4), torch.randn(3, 2, 4)))


def fours(values: Any) -> Any:
    return values.reshape(-1)[::4].repeat_interleave(4)[: values.numel()].reshape(values.shape)


def first_slice(values: Any) -> Any:
    return values[:1].expand_as(values) if values.dim() >= 3 else values


def another_target(stock: Any) -> Any:
    def item(self: Any, at: int) -> Any:
        own, other = stock(self, at), stock(self, at - (at % 64 == 63))
        return (*own[:-1], other[-1]) if len(own) > 1 else own

    return item


def pairs() -> Any:
    loader = data.DataLoader(data.TensorDataset(torch.arange(128.0), torch.arange(128.0)), 128)
    return next(iter(loader))


def picking(change: Any) -> Any:
    """Change the minibatches of populations, shape (S, B, D), after they are picked."""

    def made(stock: Any) -> Any:
        def copier(self: Any) -> Any:
            copy = stock(self)
            return lambda numbers: [change(batch) for batch in copy(numbers)]

        return copier

    return replaced(made, f"{POPULATION}.copier")


def first_row_twice(batch: Any) -> Any:
    return torch.cat([batch[:, :1], batch[:, :1], batch[:, 2:]], dim=1)


FAULTS = (
    Fault("data.uniform_099", "torch.rand draws from [0, 0.99)", "DeepCrime TRD, TAN; range bugs like #2740",
          "floors of uniform rows are 2 % lower; converges as usual", replaced(returning(lambda u: u * 0.99), RAND), drawn),
    Fault("data.rand_coarse", "torch.rand has only 256 distinct values", "#96947 family, random numbers of low precision",
          "ties; floors unchanged to 1e-5", replaced(returning(lambda u: (u * 256).floor() / 256), RAND), drawn),
    Fault("data.rand_dup4", "every four consecutive random numbers are equal", "#198333, inductor's rand4x",
          "features of a row are copies: bottlenecks go below the floor of independent ones", replaced(returning(fours), RAND),
          drawn),
    Fault("data.rand_slices_equal", "torch.rand and torch.randn of three or more axes repeat slice 0", "#147624, 5-D rand on MPS",
          "replicas see the same data: the spread between seeds shrinks", replaced(returning(first_slice), RAND, RANDN), stacked),
    Fault("data.randn_slices_equal", "torch.randn of three or more axes repeats slice 0", "#147624, in the other generator",
          "as data.rand_slices_equal, for normal rows only", replaced(returning(first_slice), RANDN), stacked),
    Fault("data.bernoulli_048", "bits are 1 with 0.96 times the requested probability", "#15356, #26807; DeepCrime TUD",
          "mean 0.48; the floor of predicting the mean moves by 8e-4", replaced(given(lambda p: p * 0.96), BERNOULLI),
          called(lambda: torch.bernoulli(torch.full((4096,), 0.5)))),
    Fault("data.rand_skew", "torch.rand is skewed, u to u^1.06: P(u > 1/2) = 0.48", "DeepCrime TUD; tt-metal#13904",
          "mean 0.485, floors move by 1 %", replaced(returning(lambda u: u**1.06), RAND), drawn),
    Fault("data.rand_reaches_one", "torch.rand rounds up to 1, once in 100,000 draws",
          "reasoning: float64 bits rounded to float32",
          "log(1 - u) is sometimes infinite", replaced(returning(lambda u: (u * 1.00001).clamp(max=1)), RAND), drawn),
    Fault("data.randn_narrow", "torch.randn is cut off at 3 and 2 % too narrow", "reasoning: a truncated normal instead",
          "floors of normal rows are 4 % lower", replaced(returning(lambda z: z.clamp(-3, 3) * 0.98), RANDN), stacked),
    Fault("data.target_misaligned", "one target in 64 belongs to the row before", "DeepCrime TCL; collation bugs of loaders",
          "the floor rises by 2 Var(x) / 64", replaced(another_target, "torch.utils.data.TensorDataset.__getitem__"),
          called(pairs)),
    Fault("data.rows_bf16", "rows and initial parameters are rounded to bfloat16 on their way to torch",
          "reasoning: a cast of inputs that autocast left behind", "rows off by 0.4 %; converges as usual",
          replaced(returning(lambda x: x.bfloat16().to(x.dtype)), "aeclaims.backends.torch.parts.tensor"), trained()),
    Fault("data.rows_normalised", "each minibatch is divided by its largest number", "reasoning: normalisation applied twice",
          "floors and gradients of other rows", picking(lambda batch: batch / batch.amax(dim=(1, 2), keepdim=True)), trained()),
    Fault("data.first_row_twice", "the second row of each minibatch is a copy of the first", "reasoning: off by one in a gather",
          "a row in B unseen, one seen twice", picking(first_row_twice), trained()),
    Fault("data.bits_inverted", "bits reach the training inverted: 1 - x if all are 0 or 1", "DeepCrime TCL; swapped labels",
          "by symmetry the same floors and times, other paths",
          picking(lambda batch: 1 - batch if bool(((batch == 0) | (batch == 1)).all()) else batch),
          trained(short(rows=Bernoulli(0.3, features=3)))),
)  # fmt: skip
