"""The sessions of nox: tests and lint as CI runs them, and the suite on each stack of docs/compatibility.md."""

from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
STACKS = nox.project.load_toml("docs/compatibility/stacks.toml")
DEFAULT_RUNS = ("quick", "conformance", "bisection")
nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and the types."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    session.run("python", "-m", "tools.prose")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of the project."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
@nox.parametrize("version", STACKS["torch"])
def torch(session: nox.Session, version: str) -> None:
    """Judge a release of torch; the arguments are names of runs."""
    session.install(*others_pinned(session), ".", f"torch=={version}")
    judge(session, f"torch-{version}", session.posargs or DEFAULT_RUNS)


@nox.session
def lowest(session: nox.Session) -> None:
    """Judge the lowest declared version of each dependency."""
    session.install(".", *(requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]))
    judge(session, "lowest", session.posargs or DEFAULT_RUNS)


@nox.session
@nox.parametrize("name", list(STACKS["backends"]))
def backend(session: nox.Session, name: str) -> None:
    """Judge a backend, or a mode of torch.compile."""
    session.install("-c", "constraints.txt", ".[jax]" if name == "jax" else ".")
    judge(session, name, session.posargs or ("quick", "conformance"), *STACKS["backends"][name].split())


def others_pinned(session: nox.Session) -> tuple[str, str]:
    """The arguments for pip that pin all dependencies except torch."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    path = Path(session.create_tmp()) / "constraints.txt"
    path.write_text("\n".join(line for line in pinned if not line.startswith("torch==")), encoding="utf-8")
    return "-c", str(path)


def judge(session: nox.Session, stack: str, runs: list[str] | tuple[str, ...], *options: str) -> None:
    """Judge the installed stack by each run, outside the working tree, and write the page."""
    documents = Path(session.create_tmp())
    session.env["PYTHONPATH"] = str(ROOT / "examples")
    with session.chdir(documents):
        for run in runs:
            # Exit codes 1 (failures) and 5 (nothing exercised) are results. With any other code, the run did not finish.
            session.run(
                "pytest",
                "--pyargs",
                "aeclaims",
                "-W",
                "error",
                *STACKS["runs"][run].split(),
                *options,
                "--claims-json",
                f"{stack}.{run}.json",
                success_codes=[0, 1, 5],
            )
    session.run("python", "-m", "tools.compatibility", str(documents), env={"PYTHONPATH": str(ROOT)})
