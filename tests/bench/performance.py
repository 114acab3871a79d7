"""docs/performance.md and its pictures, from the JSON of one run of the benchmarks.

`python -m tests.bench.performance docs/performance.json docs`
"""

import sys
from pathlib import Path
from typing import Any

from tests.bench.contestants import NETWORKS
from tests.bench.figures import Timing, comparisons, load, number
from tools.claim_pages import command

BACKENDS = ("plain loop", "torch-eager", "torch", "torch-cudagraph", "numba", "jax")
COLUMNS = [(network, seeds) for network in ("D=2", "D=10") for seeds in (1, 64, 128)]
COLOURS = dict(zip(BACKENDS, ("tab:gray", "tab:orange", "tab:red", "tab:purple", "tab:blue", "tab:green"), strict=True))

PAGE = """# How fast it is

Generated from one run of the benchmarks, `performance.json` ({when}): {machine}.
On a GPU: {cuda}. These commands make it again in about ten minutes:

```sh
pytest tests/bench --benchmark-only -m "slow or not slow" --benchmark-json=docs/performance.json
python -m tests.bench.performance docs/performance.json docs
```

`pytest --benchmark-only` alone leaves out the times of the whole suite. Contestants take turns, one round each, so a machine that
slows down slows all of them down. A ratio is the median over rounds of two times in the same round. The benchmarks refuse a
comparison with a run on another machine; compare the ratios instead.

## One training step of one replica

Microseconds, with float32, minibatches of 128, Adam and MSE. D=2 is the affine model of two features. D=10 is the listing's
network. S seeds train at once. Rows and their order are drawn before the timing. `jax` is jit, scan and vmap with optax
(`examples/jax_backend.py`).

{steps}

![time of a step by population](pictures/performance-population.png)

## Against the aims

{comparisons}

The line on denormals compares a step of a network with dead units in torch's default mode with the same step in our torch
backends, which flush denormal numbers to zero. The reference sets such small moments to zero in its code.

## Against work

The slope is d log(seconds) / d log(size) between the two largest sizes. It is 1 if the cost of a training is proportional to the
size. A layer of D features has D^2 weights.

![time of a training by its size](pictures/performance-work.png)

## Against the machine

The speed is the arithmetic of the matrix products over the time of the whole step. This time also contains the gathering of rows,
the activations, the loss and the optimizer. The roofs are the speeds of `sgemm` and of a memory copy in the same run:
{peak} GFLOP/s and {bandwidth} GB/s. A step reads the rows of its minibatch from memory or the last-level cache. Parameters and
moments stay in nearer caches.

{roofline}

![roofline](pictures/performance-roofline.png)
"""


def page(timings: dict[str, Timing], machine: dict[str, Any]) -> str:
    """The text of docs/performance.md."""
    lines = [
        [c.what, f"{number(c.value)} {c.unit}".strip(), c.aim, {True: "yes", False: "no", None: ""}[c.is_met]]
        for c in comparisons(timings)
    ]
    peak, bandwidth = roofs(timings)
    points = [
        [backend, network, f"{intensity:.3g}", number(speed), f"{100 * speed / min(peak, bandwidth * intensity):.0f} %"]
        for backend, network, intensity, speed in roofline(timings)
    ]
    return PAGE.format(
        when=machine["when"][:10],
        machine=described(machine["aeclaims"]),
        cuda=cuda(machine["aeclaims"]),
        steps=steps(timings),
        comparisons=table(["figure", "measured", "aim", "met"], lines),
        peak=number(peak),
        bandwidth=number(bandwidth),
        roofline=table(["backend", "network", "operations per byte", "GFLOP/s", "of the roof"], points),
    )


def described(machine: dict[str, Any]) -> str:
    """The machine in words."""
    gpu = f", {machine['gpu']} (driver {machine['driver']})" if machine["gpu"] else ""
    return (
        f"{machine['processors']} shared virtual processors ({machine['cpu']}){gpu}, torch {machine['torch']}, numba "
        f"{machine['numba']}, numpy {machine['numpy']}, Python {machine['python']}"
    )


def cuda(machine: dict[str, Any]) -> str:
    """The sentence on CUDA."""
    return f"these figures, {machine['gpu']}" if machine["gpu"] else "no run on CUDA"


def table(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def steps(timings: dict[str, Timing]) -> str:
    """The table of times: backends x networks and populations."""
    header = ["", *(f"{network}, S={seeds}" for network, seeds in COLUMNS)]
    found = {
        backend: [timings.get(f"{backend}, {network}, S={seeds}") for network, seeds in COLUMNS] for backend in BACKENDS
    }
    found = {backend: cells for backend, cells in found.items() if any(cells)}
    return table(
        header,
        [
            [
                f"`{backend}`" if backend != "plain loop" else "plain `DataLoader` loop",
                *(number(1e6 * cell.median) if cell else "" for cell in cells),
            ]
            for backend, cells in found.items()
        ],
    )


# ------------------------------------------------------------------------------------------ pictures


def roofs(timings: dict[str, Timing]) -> tuple[float, float]:
    """The highest GFLOP/s and GB/s of this machine."""
    products, copies = timings["machine: sgemm"], timings["machine: copy"]
    return products.said["operations"] / products.median / 1e9, copies.said["bytes"] / copies.median / 1e9


def roofline(timings: dict[str, Timing]) -> list[tuple[str, str, float, float]]:
    """Backend, network, operations per byte of its rows, and GFLOP/s, for the largest population of each."""
    largest: dict[tuple[str, str], Timing] = {}
    for timing in timings.values():
        if "operations" in timing.said and "network" in timing.said:
            place = timing.said["backend"], timing.said["network"]
            largest[place] = max(timing, largest.get(place, timing), key=lambda t: t.said["seeds"])
    points = []
    for (backend, network), timing in largest.items():
        experiment = NETWORKS[network]
        read = 4 * experiment.batch_size * experiment.features
        if backend != "sgemm":
            points.append(
                (backend, network, timing.said["operations"] / read, timing.said["operations"] / timing.median / 1e9)
            )
    return points


def draw(timings: dict[str, Timing], folder: Path) -> None:
    """Draw the three pictures."""
    draw_population(timings, folder / "performance-population.png")
    draw_work(timings, folder / "performance-work.png")
    draw_roofline(timings, folder / "performance-roofline.png")


def draw_population(timings: dict[str, Timing], path: Path) -> None:
    """Draw the time of a step of one replica by the number of replicas, logarithmic on both axes."""
    figure, axes = panels(2)
    for axis, network in zip(axes, ("D=2", "D=10"), strict=True):
        for backend in BACKENDS:
            points = [
                (seeds, 1e6 * timings[name].median)
                for seeds in (1, 64, 128)
                if (name := f"{backend}, {network}, S={seeds}") in timings
            ]
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", color=COLOURS[backend], label=backend)
        axis.set(title=network, xlabel="seeds trained at once")
    axes[0].set_ylabel("us per step and replica")
    axes[0].legend(loc="upper right")
    save(figure, path)


def draw_work(timings: dict[str, Timing], path: Path) -> None:
    """Draw the time of a training by each of its sizes, relative to the smallest, and the line of slope 1."""
    figure, axes = panels(2)
    for axis, backend in zip(axes, ("numba", "torch"), strict=True):
        for letter, marker in zip("SNED", "osv^", strict=True):
            points = sorted(
                (t.said["size"], t.median)
                for t in timings.values()
                if t.said.get("axis") == letter and t.said["backend"] == backend
            )
            if points:
                size, seconds = points[0]
                axis.loglog(
                    *zip(*((s / size, t / seconds) for s, t in points), strict=True), marker=marker, label=letter
                )
        axis.loglog([1, 64], [1, 64], color="lightgray", zorder=0, label="slope 1")
        axis.set(title=backend, xlabel="size / smallest size")
    axes[0].set_ylabel("seconds / seconds of the smallest")
    axes[1].legend()
    save(figure, path)


def draw_roofline(timings: dict[str, Timing], path: Path) -> None:
    """Draw GFLOP/s by operations per byte, under the roofs of this machine."""
    peak, bandwidth = roofs(timings)
    figure, (axis,) = panels(1)
    ends = [1.0, peak / bandwidth, 2000.0]
    axis.loglog(ends, [min(peak, bandwidth * end) for end in ends], color="black")
    for backend in BACKENDS:
        points = [(intensity, speed) for name, _, intensity, speed in roofline(timings) if name == backend]
        if points:
            axis.loglog(*zip(*points, strict=True), "o", color=COLOURS[backend], label=backend)
    axis.set(xlabel="operations per byte of the minibatch's rows", ylabel="GFLOP/s of matrix products")
    axis.legend()
    save(figure, path)


def panels(count: int) -> tuple[Any, Any]:
    """A figure and its axes, side by side."""
    from matplotlib.figure import Figure  # a late import: tests of this module collect faster

    figure = Figure(figsize=(3 + 3 * count, 3.6), layout="constrained")
    return figure, figure.subplots(1, count, sharey=True, squeeze=False)[0]


def save(figure: Any, path: Path) -> None:
    """Save a figure without a date, so that the same numbers give the same file."""
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write(source: Path, folder: Path) -> None:
    """Write the page and its pictures."""
    timings, machine = load(source)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "performance.md").write_text(page(timings, machine), encoding="utf-8")
    draw(timings, folder / "pictures")


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    return command(arguments, "tests.bench.performance", write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
