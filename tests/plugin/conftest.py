"""The fixture `claims`: two claims, of which one fails, and a run of pytest on them from outside."""

import pytest

CLAIM = """
    from aeclaims.judging.claim import claim
    from aeclaims.experiment import Adam, Experiment, Uniform, affine
    from aeclaims.judging.judge import Proportion

    EXPERIMENT = Experiment(rows=Uniform(features=2), model=affine(2, 2), loss="mse", optimizer=Adam(lr=0.01), epochs=3,
                            n_rows=90)
    MOST = Proportion(at_least=0.5)

    @claim("falls", source="here", statement="the loss falls", kind="observation", proportions=(MOST,))
    def test_falls(train, reference, judge):
        run = train(EXPERIMENT)
        judge.measure({"worst": run.epoch_loss.max()}, floor=0.0)
        judge.proportion(run.epoch_loss[-1] < run.epoch_loss[0], MOST, seeds=run.seeds, what="falls", reason="descent")
        judge.agrees(run, reference(EXPERIMENT), roundings=1000, reason="the same start")

    @claim("negative", source="there", statement="the loss is negative", kind="theorem")
    def test_negative(train, judge):
        run = train(EXPERIMENT)
        judge.all_within(run.epoch_loss, at_most=-1.0, seeds=run.seeds, what="loss below -1", reason="it is not")
"""

BACKENDS = """
    from dataclasses import replace
    from aeclaims import Run
    from aeclaims.backends.numba import population as numba_population

    trained = []

    def counting(start):
        trained.append(start.experiment)
        print("TRAINED", len(trained))
        return numba_population.train(start)

    def untouched(start):
        run = numba_population.train(start)
        return Run(start, run.epoch_loss, start.parameters())

    def raising(start):
        raise RuntimeError("the device fell off the bus")

    def interrupted(start):
        raise KeyboardInterrupt
"""


@pytest.fixture
def claims(pytester):
    pytester.makepyfile(test_claims=CLAIM, mine=BACKENDS)
    pytester.syspathinsert()
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error")

    def run(*options, backend="numba"):
        return pytester.runpytest_subprocess("-m", "claims", "--claims-backend", backend, *options)

    return run
