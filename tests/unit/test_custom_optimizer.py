"""Custom optimizers: parsing, trials, training and compilation."""

import dataclasses
import inspect

import numpy as np
import pytest

from aeclaims import SGD, Adam, Experiment, Uniform, affine, train
from aeclaims.backends import Backend, get
from aeclaims.backends.torch.compile import Compilation
from aeclaims.backends.torch.custom_optimizers import parse, try_out
from aeclaims.errors import InvalidOptimizer

SMALL = Experiment(rows=Uniform(features=2), model=affine(2, 2, 2), loss="mse", optimizer=Adam(), epochs=3, n_rows=300)


@pytest.fixture(autouse=True)
def optimizers(tmp_path, monkeypatch):
    """A user's file with optimizers."""
    (tmp_path / "own_of_a_user.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)


SOURCE = '''
import torch


class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def each(self):
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.each():
            p -= self.param_groups[0]["lr"] * p.grad


class Clipped(Plain):
    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_(self.each(), 100.0)
        super().step()


class Counted(Plain):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.count = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for p in self.each():
            p -= self.param_groups[0]["lr"] / self.count * p.grad


def counted_inside(params, lr):
    count = 0

    class Counted(Plain):
        @torch.no_grad()
        def step(self, closure=None):
            nonlocal count
            count += 1
            for p in self.each():
                p -= self.param_groups[0]["lr"] / count * p.grad

    return Counted(params, lr)


class Capturable(Plain):
    def __init__(self, params, lr):
        torch.optim.Optimizer.__init__(self, params, {"lr": lr, "capturable": True})


class Branching(Plain):
    @torch.no_grad()
    def step(self, closure=None):
        for p in self.each():
            if not p.grad.isnan().any():
                p -= self.param_groups[0]["lr"] * p.grad


class Noisy(Plain):
    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for p in self.each():
            p += 1e-6 * torch.randn_like(p)


class Whole(Plain):
    """Takes a norm of each tensor only where that is far from anything."""

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.each():
            p -= self.param_groups[0]["lr"] * p.grad / (1 + 1e-13 * p.grad.norm())


class Matrices(Plain):
    """Orthogonalises steps of matrices, as Muon does."""

    @torch.no_grad()
    def step(self, closure=None):
        for p in self.each():
            step = p.grad
            if p.ndim == 2:
                u, _, v = torch.linalg.svd(p.grad, full_matrices=False)
                step = u @ v
            p -= self.param_groups[0]["lr"] * step


class Wants(Plain):
    def step(self, closure):
        with torch.enable_grad():
            closure()
        super().step()


class Duck:
    def __init__(self, params, lr):
        self.params, self.lr = params, lr

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for p in self.params:
            p -= self.lr * p.grad


class NoBiases(Plain):
    def each(self):
        return [p for p in super().each() if p.shape[-1:] not in ((2,), (3,)) or p.ndim > 1]


class Raising(Plain):
    def __init__(self, params, lr):
        raise RuntimeError("no licence\\nand more lines")


def scheduled(params, lr):
    optimizer = torch.optim.SGD(params, lr=lr)
    own = optimizer.step
    optimizer.step = lambda: own()
    return optimizer


def hooked(params, lr):
    optimizer = torch.optim.SGD(params, lr=lr)
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


def none(params, lr):
    return None


NUMBER = 3
'''

# ------------------------------------------------------------------------------------------- reading


def test_arguments_are_numbers_booleans_and_tuples():
    own = parse("a.b:C,lr=1e-3,weight_decay=0,amsgrad=true,foreach=false,betas=(0.9,.99),eps=+1.5E-8")
    assert dict(own.arguments) == {
        "lr": 1e-3,
        "weight_decay": 0,
        "amsgrad": True,
        "foreach": False,
        "betas": (0.9, 0.99),
        "eps": 1.5e-8,
    }
    assert str(own) == own.text
    assert parse("a:C").arguments == ()


@pytest.mark.parametrize(("text", "message"), [
    ("NAdam", "'NAdam': give package.module:name"),
    ("torch.optim:", "'torch.optim:': give package.module:name"),
    (":NAdam", "give package.module:name"),
    ("torch..optim:NAdam", "give package.module:name"),
    ("a:b:c", "give package.module:name"),
    ("a:C,0.1", "'0.1' in 'a:C,0.1': give each argument once, as name=value"),
    ("a:C,", "'' in 'a:C,': give each argument once, as name=value"),
    ("a:C,lr=", "'lr=': '' is not a finite number"),
    ("a:C,lr=fast", "'lr=fast': 'fast' is not a finite number"),
    ("a:C,lr=nan", "'lr=nan': 'nan' is not"),
    ("a:C,lr=1e999", "'lr=1e999': '1e999' is not a finite number"),
    ("a:C,x=None", "'x=None': 'None' is not"),
    ("a:C,x='y'", "is not a finite number"),
    ("a:C,betas=(0.9,x)", "'betas=(0.9,x)': '(0.9,x)' is not"),
    ("a:C,betas=(0.9", "is not a finite number"),
    (f"a:C,lr={'9' * 401}", "99 is not a finite number"),
    ("a:C,lr=0", "lr=0: give a finite learning rate above 0"),
    ("a:C,lr=-1", "lr=-1: give a finite learning rate above 0"),
    ("a:C,lr=true", "lr=True: give a finite learning rate above 0"),
    ("a:C,lr=1,lr=2", "'lr=2' in 'a:C,lr=1,lr=2': give each argument once"),
    ("a:C,params=1", "'params=1' in"),
])  # fmt: skip
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(InvalidOptimizer) as raised:
        parse(text)
    assert message in str(raised.value)


# -------------------------------------------------------------------------------------------- trials


def tried(text, device="cpu"):
    return try_out(parse(text), device)


@pytest.mark.parametrize(
    "text",
    [
        "torch.optim:NAdam",
        "torch.optim:RMSprop",
        "torch.optim:AdamW",
        "torch.optim:RAdam,lr=0.01",
        "torch.optim:Rprop",
        "torch.optim:SGD,momentum=0.9,nesterov=true",
        "torch.optim:Adam,betas=(0.5,0.6),amsgrad=true",
        "own_of_a_user:Plain",
    ],
)
def test_an_elementwise_optimizer_trains_a_population(text):
    found = tried(text)
    assert (found.loop_reason, found.needs_closure) == ("", False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("own_of_a_user:Clipped", "takes other steps than alone"),
        ("own_of_a_user:Matrices", "takes other steps than alone"),
        ("own_of_a_user:Noisy", "takes other steps than alone"),
        ("own_of_a_user:Whole", "one replica's gradients move the others"),
        ("torch.optim:Adafactor", "takes other steps than alone"),
        ("torch.optim:LBFGS", "its step needs a closure"),
        ("own_of_a_user:Wants", "its step needs a closure"),
        ("own_of_a_user:Duck", "it is not a torch.optim.Optimizer"),
    ],
)
def test_any_other_trains_one_seed_at_a_time_and_it_is_said_why(text, reason):
    found = tried(text)
    assert reason in found.loop_reason
    assert found.needs_closure == ("closure" in reason)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "no_such_module:C",
            "it cannot be imported, or made for a network's weights and biases (ModuleNotFoundError",
        ),
        ("torch.optim:Absent", "(AttributeError: module 'torch.optim' has no attribute 'Absent')"),
        ("own_of_a_user:NUMBER", "(TypeError: 'int' object is not callable)"),
        ("own_of_a_user:Raising", "made for a network's weights and biases (RuntimeError: no licence)"),
        ("own_of_a_user:Plain,speed=2", "unexpected keyword argument 'speed'"),
        ("own_of_a_user:none", "its step raised AttributeError: 'NoneType' object has no attribute 'zero_grad'"),
        ("own_of_a_user:NoBiases", "12 steps left bias 1, bias 2 of a small network unchanged"),
        ("torch.optim:SparseAdam", "its step raised RuntimeError: SparseAdam does not support dense gradients"),
    ],
)
def test_what_cannot_train_is_refused_in_one_line(text, message):
    with pytest.raises(InvalidOptimizer) as raised:
        tried(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_trying_out_draws_no_random_number_of_the_users():
    import torch

    before = torch.get_rng_state()
    tried("own_of_a_user:Noisy")
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


# ------------------------------------------------------------------------------------------ training


def run(text, backend, experiment=SMALL, dtype="float64"):
    return train(experiment, seeds=(4, 7, 9), backend=get(backend, "cpu", parse(text)), dtype=dtype)


def assert_same(one, other, rtol=1e-10):
    np.testing.assert_allclose(one.epoch_loss, other.epoch_loss, rtol=rtol)
    for layer, expected in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(layer.weight, expected.weight, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("backend", ["torch", "torch-eager", "torch-loop"])
def test_adam_in_adams_place_is_adam_and_takes_the_experiments_rate(backend):
    experiment = dataclasses.replace(SMALL, optimizer=Adam(lr=0.0123))
    expected = train(experiment, seeds=(4, 7, 9), dtype="float64", backend="numba")
    assert_same(run("torch.optim:Adam", backend, experiment), expected)


@pytest.mark.parametrize("backend", ["torch", "torch-eager", "torch-loop"])
def test_the_rate_that_is_given_goes_before_the_experiments(backend):
    expected = train(
        dataclasses.replace(SMALL, optimizer=Adam(lr=0.02)), seeds=(4, 7, 9), dtype="float64", backend="numba"
    )
    assert_same(run("torch.optim:Adam,lr=0.02", backend), expected)


@pytest.mark.parametrize(
    "text", ["torch.optim:NAdam", "torch.optim:RMSprop", "own_of_a_user:Plain", "own_of_a_user:Counted"]
)
def test_a_population_is_trained_as_one_seed_after_the_other(text):
    assert_same(run(text, "torch-eager"), run(text, "torch-loop"))


@pytest.mark.parametrize(
    "text",
    [
        f"{name},lr=0.1"
        for name in ("own_of_a_user:Clipped", "own_of_a_user:Wants", "own_of_a_user:Duck", "torch.optim:LBFGS")
    ],
)
def test_what_takes_no_population_is_trained_by_torch_loop_and_noted(text):
    backend = get("torch", "cpu", parse(text))
    assert backend.name == "torch"
    assert backend.note.startswith(f"{text} is trained by torch-loop, one seed at a time: it")
    losses = run(text, "torch").epoch_loss
    assert (losses[-1] < losses[0]).all()
    assert get("torch-loop", "cpu", parse(text)).note == ""


def test_a_closure_is_asked_for_the_very_loss_before_the_step():
    assert_same(run("own_of_a_user:Wants", "torch"), run("own_of_a_user:Plain", "torch-loop"))
    uncleared = dataclasses.replace(SMALL, zero_grad=False)
    assert_same(run("own_of_a_user:Wants", "torch", uncleared), run("own_of_a_user:Plain", "torch-eager", uncleared))


@pytest.mark.parametrize("text", ["torch.optim:NAdam", "own_of_a_user:Clipped", "own_of_a_user:Counted"])
def test_experiments_with_sgd_keep_torchs_sgd(text):
    experiment = dataclasses.replace(SMALL, optimizer=SGD(lr=0.1, momentum=0.9))
    assert_same(run(text, "torch", experiment), train(experiment, seeds=(4, 7, 9), dtype="float64", backend="numba"))


def test_only_what_says_that_it_is_capturable_is_captured():
    from aeclaims.backends import _with_optimizer

    def capture(start, *, own):
        raise AssertionError("a CUDA device is needed")

    eager, note = _with_optimizer("torch-cudagraph", capture, "cpu", parse("own_of_a_user:Plain"))
    captured, silent = _with_optimizer("torch-cudagraph", capture, "cpu", parse("own_of_a_user:Capturable"))
    assert "is trained by torch-eager: its parameter groups do not set capturable" in note
    assert train(SMALL, seeds=[1], backend=Backend("torch-cudagraph", eager)).seeds == (1,)
    assert silent == ""
    assert captured.func is capture


@pytest.mark.parametrize("name", ["numba", "some.module:mine"])
def test_a_backend_without_torch_takes_none(name):
    with pytest.raises(
        InvalidOptimizer, match="takes no torch optimizer; give --claims-backend one of torch, torch-eager"
    ):
        get(name, "cpu", parse("torch.optim:NAdam"))


def test_the_record_names_it():
    backend = get("torch", "cpu", parse("torch.optim:NAdam,lr=0.5"))
    assert isinstance(backend, Backend)
    assert (backend.optimizer, backend.note) == ("torch.optim:NAdam,lr=0.5", "")
    assert get("torch", "cpu").optimizer == ""


# ----------------------------------------------------------------------------------------- compiling

COUNTS = [
    "own_of_a_user:Counted",
    "own_of_a_user:counted_inside",
    "own_of_a_user:Branching",
    "own_of_a_user:hooked",
    "own_of_a_user:scheduled",
    "torch.optim:ASGD",
    "torch.optim:NAdam",
]


@pytest.mark.parametrize("text", COUNTS)
def test_whatever_an_optimizer_does_in_python_a_compiled_population_trains_as_the_loop(monkeypatch, text):
    from aeclaims.backends.torch import population

    monkeypatch.setattr(population, "COMPILING_PAYS_FROM_STEPS", 0)
    backend = get("torch", "cpu", parse(text))
    assert backend.note == ""
    assert_same(train(SMALL, seeds=(4, 7, 9), backend=backend, dtype="float64"), run(text, "torch-loop"))


@pytest.mark.parametrize("text", ["torch.optim:NAdam", "own_of_a_user:Plain"])
def test_its_step_is_compiled_if_that_is_asked_for(text):
    backend = get("torch", "cpu", parse(text), Compilation(backend="aot_eager", scope="step"))
    assert_same(train(SMALL, seeds=(4, 7, 9), backend=backend, dtype="float64"), run(text, "torch-loop"))


def test_what_takes_no_population_is_compiled_in_a_loop_if_that_is_asked_for():
    backend = get("torch", "cpu", parse("own_of_a_user:Clipped"), Compilation(backend="aot_eager"))
    assert "is trained by torch-compile, one seed at a time" in backend.note
    assert_same(
        train(SMALL, seeds=(4, 7, 9), backend=backend, dtype="float64"), run("own_of_a_user:Clipped", "torch-loop")
    )


def test_the_module_stays_within_its_limit():
    from aeclaims.backends.torch import custom_optimizers

    assert len(inspect.getsource(custom_optimizers).splitlines()) <= 200
