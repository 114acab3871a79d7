"""Exceptions of the package. `AeclaimsError` is the root of all of them."""


class AeclaimsError(Exception):
    """Root of the exceptions that this package raises; catch it to catch any of them."""


class InvalidExperiment(AeclaimsError, ValueError):
    """An invalid field of a training set-up. The message names the field, the value and the fix."""


class InvalidRun(AeclaimsError, ValueError):
    """A result that does not belong to the start that the backend got."""


class OutOfRange(AeclaimsError, ValueError):
    """A target outside [0, 1]. Its entropy is not defined."""


class UnknownBackend(AeclaimsError, ValueError):
    """A backend, device or dtype that does not exist. The message lists the valid ones."""


class InvalidBackend(UnknownBackend):
    """An invalid field of a backend's record. The message names the field, the value and the fix."""


class InvalidOptimizer(AeclaimsError, ValueError):
    """A custom optimizer that cannot train. The message names it, the reason and the fix."""


class NotSupported(AeclaimsError, ValueError):
    """A training that needs a feature that the backend lacks. The message names the feature and the reason."""


class ProcessEnded(AeclaimsError, RuntimeError):
    """A training process that ended before it returned a result."""


class ClaimFailed(AeclaimsError, AssertionError):
    """A judge's rejection, with its evidence.

    Judges raise it and never use `assert`, so that `python -O` cannot disable them.

    Attributes:
        what: Quantity that was judged.
        reason: Theory behind the bound.
        evidence: Observed numbers: the worst seed and its bounds, or the count and its probability.
        spread: Least, median and largest value over all seeds.
        seed: Seed to replay.
    """

    def __init__(self, *, what: str, reason: str, evidence: str, spread: str, seed: int) -> None:
        self.what, self.reason, self.evidence, self.spread, self.seed = what, reason, evidence, spread, seed
        super().__init__(f"{what}\n  theory: {reason}\n  seen:   {evidence}\n  all:    {spread}")


class InvalidList(AeclaimsError, ValueError):
    """A list that cannot be read. The message names the file, the line and the fix."""


class InvalidData(AeclaimsError, ValueError):
    """A file without usable rows. The message names the error and the fix."""


class InvalidRows(AeclaimsError, ValueError):
    """Rows on which no loss can be computed. The message names the place and the fix."""


class NoRun(AeclaimsError, ValueError):
    """A document that --claims-json did not write."""
