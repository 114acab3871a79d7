"""The machine of a benchmark: its JSON names the machine, and only runs on the same machine are compared."""

import shutil
import subprocess
from typing import Any

import pytest

# If one of these facts differs, times cannot be compared. Versions are kept too, but they may differ, because you may want
# to compare them.
MACHINE = ("cpu", "processors", "threads", "device", "gpu", "driver")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add processor, accelerator, driver, threads and versions to the JSON, and remove the host's name."""
    machine_info.pop("node", None)
    machine_info["aeclaims"] = described(machine_info)


def pytest_benchmark_compare_machine_info(machine_info: dict[str, Any], compared_benchmark: dict[str, Any]) -> None:
    """Refuse to compare times of different machines."""
    now, before = machine_info["aeclaims"], compared_benchmark["machine_info"].get("aeclaims", {})
    others = [f"{fact} {before.get(fact)!r}, now {now[fact]!r}" for fact in MACHINE if before.get(fact) != now[fact]]
    if others:
        raise pytest.UsageError(
            "the benchmarks to compare with ran on another machine ("
            f"{'; '.join(others)}); run them again on this machine, or compare the ratios that each run prints"
        )


def described(machine_info: dict[str, Any]) -> dict[str, Any]:
    """The facts of MACHINE, and versions."""
    import numba
    import numpy as np
    import torch

    from aeclaims.runtime import parallel
    from tests.bench.contestants import DEVICE

    cpu = machine_info.get("cpu", {})
    is_cuda = torch.device(DEVICE).type == "cuda"
    return {
        "cpu": cpu.get("brand_raw") or machine_info.get("processor") or machine_info.get("machine"),
        "processors": parallel.cpu_count(), "threads": torch.get_num_threads(), "device": DEVICE,
        "gpu": torch.cuda.get_device_name(DEVICE) if is_cuda else None, "driver": _driver() if is_cuda else None,
        "torch": torch.__version__, "numpy": np.__version__, "numba": numba.__version__, "cuda": torch.version.cuda,
        "python": machine_info.get("python_version"),
    }  # fmt: skip


def _driver() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip().partition("\n")[0] or None
