"""Distributions of torch's random numbers, initialisations and orders. A start never uses these."""

from itertools import pairwise
from typing import Any

import numpy as np
import scipy

from aeclaims.conformance.direct import WHY_P, Torch, host, number, seeded, under_test
from aeclaims.conformance.stack import Stack
from aeclaims.judging.claim import conformance
from aeclaims.judging.judge import Judge

COUNT = 2**20
# torch.rand draws as many bits as the significand has.
BITS = {"float32": 24, "float64": 53}


@conformance(
    "torch.rand", statement="uniform on [0, 1), without ties, repeats or gaps", source="torch", seeds=1, is_quick=True
)
def test_uniform_numbers_are_uniform(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    with seeded(torch, stack.seeds[0]):
        drawn = host(torch.module.rand(COUNT, dtype=torch.dtype, device=torch.device))
    number(judge, drawn.min(), at_least=0.0, what="least number", reason="the support is [0, 1)")
    number(
        judge,
        drawn.max(),
        at_least=1 + np.log(judge.p_value()) / COUNT,
        at_most=float(np.nextafter(1, 0)),
        what="largest number",
        reason=f"P(all < 1 - d) = (1 - d)^n; {WHY_P}",
    )
    number(
        judge,
        scipy.stats.kstest(drawn, "uniform").pvalue,
        at_least=judge.p_value(),
        what="p-value of the Kolmogorov-Smirnov test",
        reason=WHY_P,
    )
    values = 2.0 ** BITS[stack.dtype]
    ties = COUNT - len(np.unique(drawn))
    number(
        judge,
        ties,
        at_most=scipy.stats.poisson.isf(judge.p_value(), COUNT**2 / 2 / values),
        what="numbers that were drawn before",
        reason=f"n^2/2 pairs of 2^{BITS[stack.dtype]} possible values tie by chance; {WHY_P}",
    )
    number(
        judge,
        int((drawn[1:] == drawn[:-1]).sum()),
        at_most=scipy.stats.poisson.isf(judge.p_value(), COUNT / values),
        what="numbers that repeat the one before",
        reason=f"n pairs of 2^{BITS[stack.dtype]} possible values tie by chance; {WHY_P}",
    )


@conformance(
    "torch.rand, slices and calls",
    statement="slices, calls and seeds differ; a seed repeats",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_slices_calls_and_seeds_differ_and_a_seed_repeats(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)

    def draw(name: str, seed: int, calls: int = 1) -> list[Any]:
        with seeded(torch, seed):
            function = getattr(torch.module, name)
            return [host(function(4, 3, 2, 5, 16, dtype=torch.dtype, device=torch.device)) for _ in range(calls)]

    for name in ("rand", "randn"):
        first, second = draw(name, 1, calls=2)
        for axis in range(4):
            slices = [part.tobytes() for part in np.moveaxis(first, axis, 0)]
            number(
                judge,
                len(slices) - len(set(slices)),
                at_most=0,
                what=f"equal slices of torch.{name} along axis {axis}",
                reason="hundreds of numbers do not repeat by chance",
            )
        for which, other in (("call", second), ("seed", draw(name, 2)[0])):
            number(
                judge,
                float((first == other).mean()),
                at_most=0.01,
                what=f"share of numbers of torch.{name} that the next {which} repeats",
                reason="another call, or another seed, draws other numbers",
            )
        number(
            judge,
            float((first != draw(name, 1)[0]).sum()),
            at_most=0,
            reason="the same seed gives the same sequence",
            what=f"numbers of torch.{name} that a seed does not repeat",
        )


@conformance("torch.randn", statement="standard normal numbers", source="torch", seeds=1, is_quick=True)
def test_normal_numbers_are_normal(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    with seeded(torch, stack.seeds[0]):
        drawn = host(torch.module.randn(COUNT, dtype=torch.dtype, device=torch.device))
    number(
        judge,
        scipy.stats.kstest(drawn, "norm").pvalue,
        at_least=judge.p_value(),
        what="p-value of the Kolmogorov-Smirnov test",
        reason=WHY_P,
    )


@conformance(
    "torch.bernoulli",
    statement="each number is 1 with the requested probability",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_bernoulli_numbers_have_their_share(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    for seed, p in enumerate((0.5, 0.1)):
        with seeded(torch, seed):
            asked = torch.module.full((COUNT,), p, dtype=torch.dtype, device=torch.device)
            drawn = host(torch.module.bernoulli(asked))
        number(
            judge,
            float(((drawn != 0) & (drawn != 1)).sum()),
            at_most=0,
            what="numbers that are neither 0 nor 1",
            reason="the numbers are bits",
        )
        number(
            judge,
            scipy.stats.binomtest(int(drawn.sum()), COUNT, p).pvalue,
            at_least=judge.p_value(),
            what=f"p-value of the share at p = {p}",
            reason=WHY_P,
        )


@conformance(
    "torch.randperm",
    statement="each row once, all orders equally likely, another order in each call",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_permutations_hold_each_row_once_and_are_uniform(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    with seeded(torch, stack.seeds[0]):
        long = [host(torch.module.randperm(3000, device=torch.device)) for _ in range(3)]
        short = np.array([host(torch.module.randperm(8, device=torch.device)) for _ in range(4000)]).astype(int)
    number(
        judge,
        float(sum((a == b).mean() for a, b in pairwise(long)) / 2),
        at_most=0.02,
        what="share of rows in the same place in the next call",
        reason="by chance, 1 row in 3,000 is",
    )
    for order in long:
        number(
            judge,
            3000 - len(np.unique(order)),
            at_most=0,
            what="rows that are missed",
            reason="a permutation has each row once",
        )
        number(
            judge,
            float((np.diff(order) == 1).mean()),
            at_most=0.02,
            what="share of rows that still follow their predecessor",
            reason="by chance, 1 row in 3,000 does",
        )
    counts = np.array([np.bincount(short[:, place], minlength=8) for place in range(8)])
    expected = len(short) / 8
    statistic = float(((counts - expected) ** 2 / expected).sum()) * 7 / 8
    number(
        judge,
        scipy.stats.chi2.sf(statistic, 49),
        at_least=judge.p_value(),
        what="p-value of the counts of rows by place",
        reason=f"chi-square test with 7 x 7 degrees of freedom; {WHY_P}",
    )


@conformance(
    "nn.Linear",
    statement="initial weights and biases are uniform within 1/sqrt(inputs) of 0",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_layers_start_as_documented(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    for inputs, outputs in ((2, 512), (100, 100), (10, 5000)):
        with seeded(torch, inputs):
            one, other = (_layer(torch, inputs, outputs) for _ in range(2))
        bound = 1 / np.sqrt(inputs)
        for name, values, others in zip(("weights", "biases"), one, other, strict=True):
            both = np.concatenate([values.ravel(), others.ravel()])
            number(
                judge,
                float(np.abs(both).max()),
                at_most=bound * (1 + torch.eps),
                what=f"largest of the {name} of two layers with {inputs} inputs",
                reason="Kaiming's uniform initialisation with a = sqrt(5)",
            )
            number(
                judge,
                scipy.stats.kstest(both, "uniform", (-bound, 2 * bound)).pvalue,
                at_least=judge.p_value(),
                what=f"p-value of the {name} of two layers with {inputs} inputs",
                reason=WHY_P,
            )
        number(
            judge,
            float((one[0] == other[0]).mean()),
            at_most=0.01,
            what="share of weights that the next layer repeats",
            reason="each layer draws its own weights",
        )


def _layer(torch: Torch, inputs: int, outputs: int) -> tuple[Any, Any]:
    layer = torch.module.nn.Linear(inputs, outputs, device=torch.device, dtype=torch.dtype)
    return host(layer.weight), host(layer.bias)


@conformance(
    "DataLoader",
    statement="each row once per epoch, with its target, in a new order",
    source="torch",
    seeds=1,
    is_quick=True,
)
def test_a_loader_visits_each_row_once_and_shuffles_anew(stack: Stack, judge: Judge) -> None:
    torch = under_test(stack)
    rows = torch.tensor(np.arange(1000.0))
    dataset = torch.module.utils.data.TensorDataset(rows, 3 * rows + 1)
    with seeded(torch, stack.seeds[0]):
        loader = torch.module.utils.data.DataLoader(dataset, 128, shuffle=True)
        epochs = [[(host(x), host(y)) for x, y in loader] for _ in range(2)]
    for epoch in epochs:
        sizes = [len(x) for x, _ in epoch]
        number(
            judge,
            float(sizes != [128] * 7 + [104]),
            at_most=0,
            what=f"whether minibatches have other sizes: {sizes}",
            reason="1,000 rows in minibatches of 128 leave 104 for the last",
        )
        seen = np.concatenate([x for x, _ in epoch])
        number(
            judge,
            1000 - len(np.unique(seen)),
            at_most=0,
            what="rows that are missed",
            reason="an epoch has each row once",
        )
        number(
            judge,
            float(sum((y != 3 * x + 1).sum() for x, y in epoch)),
            at_most=0,
            what="rows with the target of another row",
            reason="a row and its target belong together",
        )
    orders = [np.concatenate([x for x, _ in epoch]) for epoch in epochs]
    number(
        judge,
        float((orders[0] == orders[1]).mean()),
        at_most=0.05,
        what="share of rows in the same place in the next epoch",
        reason="by chance, 1 row in 1,000 is",
    )
