"""Report of a run as one self-contained page: verdicts to sort and filter, curves of the seeds, claims not exercised."""

import base64
from collections import Counter
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from aeclaims.errors import NoRun
from aeclaims.judging.judge import Verdict
from aeclaims.report.table import number

MARKS = {Verdict.HELD: "✓", Verdict.FAILED: "✗", Verdict.EXPECTED_FAILURE: "≈", Verdict.NOT_EXERCISED: "○"}
FACTS = ("seeds", "seed_base", "alpha", "seconds", "aeclaims", "torch", "numpy", "python")


def render(document: dict[str, Any]) -> str:
    """Render the page of a run. All text of the document is escaped.

    Args:
        document: Document that --claims-json wrote.

    Returns:
        Text of the page.

    Raises:
        NoRun: If --claims-json did not write the document.
    """
    try:
        charts: list[dict[str, Any]] = []
        claims = [
            {
                **claim,
                "charts": [
                    _chart(training, charts)
                    for training in claim["trainings"]
                    if len(training["epochs"]) > 1 and _is_drawable(training)
                ],
            }
            for claim in document["claims"]
        ]
        counted = Counter(claim["verdict"] for claim in claims)
        environment = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            loader=jinja2.PackageLoader("aeclaims.report"),
        )
        environment.filters |= {
            "number": number,
            "slug": lambda text: text.replace(" ", "-"),
            "thousands": "{:,}".format,
        }
        return environment.get_template("report.html.jinja").render(
            run=document,
            claims=claims,
            charts=charts,
            marks=MARKS,
            title=f"aeclaims: {_summary(counted)}",
            counts=[(verdict, counted[verdict]) for verdict in Verdict if counted[verdict]],
            position={claim["id"]: index for index, claim in enumerate(claims, 1)},
            facts=[(name.replace("_", " "), document[name]) for name in FACTS],
        )
    except (KeyError, TypeError, AttributeError, ValueError, jinja2.UndefinedError) as error:
        raise NoRun(f"this is not a run that --claims-json wrote ({type(error).__name__}: {error})") from None


def _summary(counted: Counter[str]) -> str:
    return ", ".join(f"{counted[verdict]} {verdict}" for verdict in Verdict if counted[verdict]) or "no claims"


def _is_drawable(training: dict[str, Any]) -> bool:
    return any(value is not None and value > 0 for value in training["quantiles"]["1"])


def _chart(training: dict[str, Any], charts: list[dict[str, Any]]) -> dict[str, Any]:
    """Append the numbers of a picture to `charts`. Return its index and its labels."""
    levels = {name: _numbers(training["quantiles"][name]) for name in ("0", "0.5", "1")}
    curves = (
        np.atleast_2d(_numbers(training["curves"])) if training["curves"] else np.empty((0, len(training["epochs"])))
    )
    floors = {name: value for name, value in training["floors"].items() if value > 1e-12}
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(np.concatenate([*levels.values(), curves.ravel(), list(floors.values())]))
    finite = logs[np.isfinite(logs)]
    low, high = float(finite.min()), float(finite.max())
    margin = max(0.02 * (high - low), 1e-3)
    low, high = low - margin, high + margin
    ends = [curve[-1] for curve in training["curves"] if curve[-1] is not None]
    above, excess = training.get("above", "loss at the last epoch"), training.get("excess", ends)
    charts.append(
        {
            "epochs": training["epochs"],
            "lo": low,
            "hi": high,
            "curves": _packed(curves, low, high),
            "median": _packed(levels["0.5"], low, high),
            "floors": sorted(floors.items()),
            "excess": excess,
            "above": above,
        }
    )
    last = {name: values[-1] for name, values in levels.items()}
    floor = "; ".join(f"{name} {value:.4g}" for name, value in floors.items())
    losses = (
        f"Losses of {len(curves)} of {training['seeds']:,} seeds over {training['epochs'][-1]:,} epochs. Last epoch: "
        f"minimum {last['0']:.4g}, median {last['0.5']:.4g}, maximum {last['1']:.4g}. {floor}"
    )
    spread = f"from {min(excess):.4g} to {max(excess):.4g}" if excess else "none is finite"
    return {
        "index": len(charts) - 1,
        "experiment": training["experiment"],
        "curves_label": losses.rstrip(),
        "histogram_label": f"Histogram over {len(excess)} seeds: {above}, {spread}.",
    }


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _packed(values: npt.NDArray[np.float64], low: float, high: float) -> str:
    """Encode the logarithms in 16 bits each, little-endian, in base64: 0 is a gap, 1 to 65535 run from low to high."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = 1 + (np.log10(values) - low) / (high - low) * 65534
    return base64.b64encode(np.where(np.isfinite(scaled), scaled.round(), 0).astype("<u2").tobytes()).decode()
