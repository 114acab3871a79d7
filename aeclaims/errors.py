"""Exceptions of the package. `AeclaimsError` is the root of all of them."""


class AeclaimsError(Exception):
    """Root of the exceptions that this package raises; catch it to catch any of them."""


class InvalidExperiment(AeclaimsError, ValueError):
    """An invalid field of a training set-up. The message names the field, the value and the fix."""


class InvalidRun(AeclaimsError, ValueError):
    """A result of a backend that does not fit the training it was given."""


class OutOfRange(AeclaimsError, ValueError):
    """A target outside [0, 1], which has no entropy."""


class UnknownBackend(AeclaimsError, ValueError):
    """No such backend, device or dtype; the message lists the right ones."""


class InvalidBackend(UnknownBackend):
    """A record that cannot be; the message names the field, the value and the way out."""


class InvalidOptimizer(AeclaimsError, ValueError):
    """A custom optimizer that cannot train; the message names it, the reason, and the way out."""


class NotSupported(AeclaimsError, ValueError):
    """A training that needs what the backend lacks; the message says what, and why it is lacking."""


class ProcessEnded(AeclaimsError, RuntimeError):
    """A process that trained ended before it had an answer."""


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
    """A list that cannot be read; the message names the file, the line and the way out."""


class InvalidData(AeclaimsError, ValueError):
    """A file without usable rows. The message names the error and the fix."""


class InvalidRows(AeclaimsError, ValueError):
    """Rows on which no loss can be computed. The message names the place and the fix."""


class NoRun(AeclaimsError, ValueError):
    """A document that --claims-json did not write."""
