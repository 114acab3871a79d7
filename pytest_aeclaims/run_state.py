"""The state of one pytest run: its settings, its backend and its trainings."""

import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np

from aeclaims import backends
from aeclaims.errors import ClaimFailed
from aeclaims.experiment import Experiment
from aeclaims.judging.claim import Claim
from aeclaims.judging.judge import ALPHA
from aeclaims.judging.registry import CHECKS, CLAIMS
from aeclaims.run import Run
from aeclaims.runtime import parallel
from aeclaims.start import Start
from pytest_aeclaims.known_failures import KnownFailure
from pytest_aeclaims.prefetch import Prefetcher, can_copy_processes

if TYPE_CHECKING:
    from aeclaims.backends.torch.compile import Compilation
    from aeclaims.backends.torch.custom_optimizers import CustomOptimizer


@dataclass(frozen=True)
class Settings:
    """The values of the --claims-* options."""

    backend: str
    device: str
    optimizer: "CustomOptimizer | None"
    compile: "Compilation | None"
    dtype: str
    seeds: int | None
    scale: int
    seed_base: int
    processes: int | None
    alpha: float
    bisect: bool
    xfails: dict[str, KnownFailure] | None
    json: Path | None
    report: Path | None = None
    false_alarms: int | None = None
    quick: bool = False
    selftest: bool = False

    def command(self, claim: Claim, node: str, seeds: int, seed_base: int) -> str:
        """Return the command that judges one claim or check again. `node` is its test, as `--pyargs` takes it."""
        if node.startswith((f"{CLAIMS}.", f"{CHECKS}.")) and not claim.is_stage:
            return self._short_command(claim, seeds, seed_base)
        kind = "conformance" if claim.origin == "conformance" else "claims"
        trains = "--claims-bisect" if claim.is_stage else f"--claims-backend {self.backend}"
        parts = [
            f"pytest --pyargs {shlex.quote(node)} -m {kind} {trains}",
            f"--claims-dtype {self.dtype}",
            f"--claims-seeds {seeds}",
            f"--claims-seed-base {seed_base}",
        ]
        if self.optimizer is not None:
            parts.append(f"--claims-optimizer {shlex.quote(str(self.optimizer))}")
        if self.compile is not None:
            parts.append(f"--claims-compile {shlex.quote(str(self.compile))}")
        if self.alpha != ALPHA:
            parts.append(f"--claims-alpha {self.alpha:g}")
        return " ".join(parts + [f"--claims-device {self.device}"] * (self.device != "cpu"))

    def _short_command(self, claim: Claim, seeds: int, seed_base: int) -> str:
        """Return the command for a claim of the package. It names the backend: the default of `aeclaims run` is not pytest's."""
        said = {"seeds": seeds, "seed-base": seed_base, "backend": self.backend}
        if self.dtype != "float32":
            said["dtype"] = self.dtype
        if self.device != "cpu":
            said["device"] = self.device
        if self.compile is not None:
            said["compile"] = str(self.compile)
        if self.optimizer is not None:
            said["optimizer"] = str(self.optimizer)
        if self.alpha != ALPHA:
            said["alpha"] = self.alpha
        options = [f"--{name} {shlex.quote(str(value))}" for name, value in said.items()]
        return " ".join(["aeclaims run", shlex.quote(claim.id), *options])


@dataclass
class RunState:
    """State of a run. It trains each experiment once, for all claims that use it.

    Attributes:
        settings: The values of the options.
        runs: The runs so far, by backend and experiment.
        parts: Selections from those runs, by backend, experiment and seeds.
        trained: Runs of the conformance checks, by start.
        begun: When the run began, in seconds of the monotonic clock.
        planned: The experiments of the selected claims, with the most seeds that a claim takes.
    """

    settings: Settings
    runs: dict[tuple[str, Experiment], Run] = field(default_factory=dict)
    parts: dict[tuple[str, Experiment, range], Run] = field(default_factory=dict)
    trained: dict[Start, Run] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    planned: dict[Experiment, range] = field(default_factory=dict)
    _backend: backends.Backend | None = None
    _prefetcher: Prefetcher | None = None

    @property
    def backend(self) -> backends.Backend:
        """The backend under test.

        Raises:
            UnknownBackend: If the backend, its device or its dtype is not available.
            InvalidOptimizer: If your optimizer is not available.
        """
        if self._backend is None:
            backend = backends.get(
                self.settings.backend, self.settings.device, self.settings.optimizer, self.settings.compile
            )
            if self.settings.dtype not in backend.dtypes:
                raise backends.UnknownBackend(
                    f"dtype {self.settings.dtype!r}: {backend.name} on {backend.device} has "
                    f"{' and '.join(backend.dtypes)} only"
                )
            self._backend = backend
        return self._backend

    def check_backend(self) -> None:
        """Raise UnknownBackend or InvalidOptimizer now if the backend under test is not available."""
        _ = self.backend

    def with_seed_base(self, seed_base: int) -> "RunState":
        """Return the state of a separate run on other seeds, with the same backend.

        It trains in this process alone, because a process that has trained must not be copied.
        """
        return RunState(replace(self.settings, seed_base=seed_base, processes=1), _backend=self._backend)

    @property
    def note(self) -> str:
        """How the backend trains, if that differs from its name; else empty."""
        return self._backend.note if self._backend else ""

    def skip_reason(self, claim: Claim) -> str:
        """Return the reason why the claim is not exercised: its bounds are for another optimizer or format. Else empty."""
        if self.settings.optimizer and claim.needs_adam:
            return f"{self.settings.optimizer} trains in Adam's place: {claim.needs_adam}"
        if self.settings.dtype not in claim.formats:
            return f"its bounds are for {' and '.join(claim.formats)}, not for products in {self.settings.dtype}"
        return ""

    def seeds(self, claim: Claim) -> range:
        """Return the seeds of a claim.

        If you give `--claims-seeds`, there are that many. By default there are the fewest with which the claim can fail.
        On the reference, without the quick profile, there are at least the claim's `reference_seeds`. `--claims-scale`
        multiplies the default.
        """
        count = self.settings.seeds
        if count is None:
            count = (
                max(claim.fewest_seeds(self.settings.alpha), claim.reference_seeds * self._takes_many)
                * self.settings.scale
            )
        return range(self.settings.seed_base, self.settings.seed_base + count)

    @property
    def _takes_many(self) -> bool:
        return self.settings.backend == "numba" and not self.settings.quick

    def plan(self, claims: Iterable[Claim]) -> None:
        """Plan the trainings of these claims, in their order. They begin when a claim first asks for a run or the stack."""
        for claim in claims:
            if self.skip_reason(claim):
                continue
            seeds = self.seeds(claim)
            for experiment in claim.trains:
                self.planned[experiment] = max(seeds, self.planned.get(experiment, seeds), key=len)
        if self.settings.backend == "numba" and self._processes() > 1 and can_copy_processes():
            from aeclaims.backends.numba import population as numba_population

            numba_population.compile_ahead(self.planned.items(), self.settings.dtype)

    def close(self) -> None:
        """Stop the trainings that still run."""
        if self._prefetcher is not None:
            self._prefetcher.close()

    def _processes(self) -> int:
        """Number of training processes: 1 if copies would differ from this process or compete with pytest-xdist's workers."""
        settings, is_alone = self.settings, "PYTEST_XDIST_WORKER" not in os.environ
        asked = parallel.cpu_count() if settings.processes is None else settings.processes
        if settings.backend == "numba":
            return asked
        is_copied = settings.backend in backends.BACKENDS and settings.device == "cpu" and can_copy_processes()
        return asked if is_alone and is_copied else 1

    def begin(self) -> None:
        """Begin the planned trainings, if more than this process may train."""
        if self._prefetcher is None and self.planned and self._processes() > 1:

            def train(experiment: Experiment, seeds: range) -> Run:
                return backends.train(experiment, seeds=seeds, backend=self.backend, dtype=self.settings.dtype)

            # The reference uses all processors by itself. With the quick profile, this process trains for other checks meanwhile.
            copies = 0 if self.settings.backend == "numba" else self._processes() - self.settings.quick
            self._prefetcher = Prefetcher(train, self.planned.items(), copies=copies)

    def _prefetched(self, experiment: Experiment, seeds: range) -> Run | None:
        if experiment in self.planned:
            self.begin()
        return self._prefetcher.result(experiment, seeds) if self._prefetcher else None

    def train(self, experiment: Experiment, seeds: range) -> Run:
        """Return the experiment's run by the backend under test."""
        run = self._once(self.backend, experiment, seeds)
        with_own = f" with {self.settings.optimizer}" if self.settings.optimizer else ""
        _check_trained(self.backend.name + with_own, run)
        return run

    def reference(self, experiment: Experiment, seeds: range) -> Run:
        """Return the reference's run from the same start. If the reference is under test, it is the same object."""
        return self._once(backends.get("numba"), experiment, seeds)

    def _once(self, backend: backends.Backend, experiment: Experiment, seeds: range) -> Run:
        known = self.runs.get((backend.name, experiment))
        if known is None or not set(seeds) <= set(known.seeds):
            known = self._prefetched(experiment, seeds) if backend.name == self.backend.name else None
            known = known or backends.train(experiment, seeds=seeds, backend=backend, dtype=self.settings.dtype)
            self.runs[backend.name, experiment] = known
        if known.seeds == tuple(seeds):
            return known
        # The same part is the same object, so that a comparison of the reference with itself is noticed.
        return self.parts.setdefault((backend.name, experiment, seeds), known.select(tuple(seeds)))

    def document(self, claims: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the content of the JSON of `--claims-json`."""
        return {
            "aeclaims": _version("aeclaims"), "torch": _version("torch"), "numpy": _version("numpy"),
            "python": python_version(), "backend": self.settings.backend, "device": self.settings.device,
            "optimizer": None if self.settings.optimizer is None else str(self.settings.optimizer),
            "compile": None if self.settings.compile is None else str(self.settings.compile),
            "dtype": self.settings.dtype, "seeds": self.settings.seeds or max((c["seeds"] for c in claims), default=0),
            "seed_base": self.settings.seed_base, "alpha": self.settings.alpha,
            "seconds": round(time.monotonic() - self.begun, 3), "claims": claims,
        }  # fmt: skip

    def header(self) -> str:
        """Return versions, backend, device, dtype and seeds, in one line."""
        found = self.document([])
        seeds = self.settings.seeds or (
            ("256, fewer for costly claims" if self._takes_many else "the fewest that can fail a claim")
            + f", times {self.settings.scale}" * (self.settings.scale > 1)
        )
        own = f", compiled by {self.settings.compile}" if self.settings.compile else ""
        own += f", {self.settings.optimizer} in Adam's place" if self.settings.optimizer else ""
        return (
            f"aeclaims {found['aeclaims']}, torch {found['torch']}, numpy {found['numpy']}, python {found['python']}; "
            f"backend {found['backend']}{own}, device {found['device']}, {found['dtype']}{_tf32(found['device'])}; "
            f"seeds: {seeds}, from {found['seed_base']}"
        )


def _tf32(device: str) -> str:
    """Return the header's text on TF32 if the device is CUDA. By default, torch does not round float32 products to TF32."""
    if device.partition(":")[0] != "cuda":
        return ""
    import torch

    return f", TF32 {'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}"


def _check_trained(name: str, run: Run) -> None:
    start = run.start.parameters()
    is_untouched = all(
        np.array_equal(now, before)
        for layer, initial in zip(run.parameters, start, strict=True)
        for now, before in zip(layer, initial, strict=True)
    )
    if is_untouched:
        raise ClaimFailed(
            what=f"backend {name} trained nothing",
            reason="training changes parameters",
            evidence="the returned parameters equal those of the start, bit for bit",
            spread=f"all {len(run.seeds)} seeds",
            seed=run.seeds[0],
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
