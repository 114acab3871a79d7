"""The page of a run: its content; it needs no network, and it escapes all foreign text."""

import base64
import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aeclaims.cli import app
from aeclaims.errors import NoRun
from aeclaims.judging.judge import Verdict
from aeclaims.report.html import _packed, render

RUN = Path(__file__).parents[2] / "docs" / "claims" / "run.json"
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\" onmouseover=\"window.hacked=1"
)


@pytest.fixture(scope="module")
def document():
    return json.loads(RUN.read_text())


class Page(HTMLParser):
    """The elements with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes where it is not open"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag, **wanted):
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]


def hostile(value):
    """The same document with hostile text in all fields of text except verdicts."""
    if isinstance(value, dict):
        return {
            key if key != "worst_excess" else HOSTILE: new if key in ("verdict", "quantiles") else hostile(new)
            for key, new in value.items()
        }
    if isinstance(value, list):
        return [hostile(new) for new in value]
    return HOSTILE if isinstance(value, str) else value


def test_the_page_is_well_formed_and_shows_every_claim(document):
    page = Page(render(document))
    assert page.open == []
    assert len(page.all("article")) == len(document["claims"])
    assert len(page.all("th", scope="row")) == len(document["claims"])
    text = " ".join(page.text.split())
    for claim in document["claims"]:
        for said in (claim["id"], claim["statement"], claim["finding"], claim["replay"]):
            assert " ".join(said.split()) in text
    assert f"{len(document['claims'])} of {len(document['claims'])} claims shown" in text
    assert f"Nothing: every judge of these {len(document['claims'])} claims could have failed." in text


def test_it_is_usable_without_eyes_or_mouse(document):
    page = Page(render(document))
    assert page.all("html", lang="en")
    assert len(page.all("caption")) == 1
    heads = page.all("th", scope="col")
    assert [head["aria-sort"] for head in heads] == ["none"] * 7
    assert page.all("label", for_="filter")
    assert page.all("p", role="status")
    assert page.all("a", href="#verdicts", class_="skip")
    assert all(found["type"] == "button" for found in page.all("button"))
    canvases = page.all("canvas")
    assert canvases
    assert all(found["role"] == "img" and re.search(r"\d", found["aria-label"]) for found in canvases)
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    links = [found["href"][1:] for found in page.all("a")]
    assert set(links) <= set(ids)


def test_it_fetches_nothing(document):
    page = Page(render(document))
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|url\(", render(document))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_whatever_it_did_not_write_is_escaped(document):
    text = render(hostile(copy.deepcopy(document)))
    page = Page(text)
    assert len(page.all("script")) == 2
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "window.hacked = 1" in page.text  # as text
    assert page.open == []


def test_what_was_not_exercised_has_its_own_section(document):
    other = copy.deepcopy(document)
    for index, verdict in enumerate(Verdict):
        other["claims"][index]["verdict"] = str(verdict)
        other["claims"][index]["reason"] = f"because of {verdict}"
    text = " ".join(Page(render(other)).text.split())
    section = text[text.index("Judges that could not have failed") :]
    assert f"{other['claims'][3]['id']}: because of not exercised" in section
    assert f"{len(other['claims']) - 3} held" in text
    assert "1 expected failure" in text


def test_curves_are_packed_in_16_bits_a_point():
    values = np.array([[1.0, 0.1, 0.01], [np.nan, 0.0, -1.0]])
    packed = np.frombuffer(base64.b64decode(_packed(values, -2, 0)), "<u2").reshape(2, 3)
    np.testing.assert_allclose(10 ** ((packed[0] - 1) / 65534 * 2 - 2), [1, 0.1, 0.01], rtol=1e-4)
    assert packed[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("broken", [{}, [], 3, {"claims": 3}, {"claims": [{}]}, None])
def test_another_document_is_refused(broken):
    with pytest.raises(NoRun, match="not a run that --claims-json wrote"):
        render(broken)


def test_a_run_that_judged_nothing_has_a_page(document):
    assert "no claims" in render({**document, "claims": []})


def test_losses_that_are_not_finite_or_zero_leave_gaps(document):
    other = copy.deepcopy(document)
    (training,) = other["claims"][2]["trainings"]
    training["curves"][0] = [None] * len(training["epochs"])
    training["quantiles"] = {name: [None, 0.0, *values[2:]] for name, values in training["quantiles"].items()}
    training["excess"] = []
    assert "none is finite" in render(other)
    training["quantiles"] = dict.fromkeys(training["quantiles"], [None] * len(training["epochs"]))
    render(other)


# ------------------------------------------------------------------------------------ aeclaims report


def test_the_command_writes_the_page_or_shows_the_table(tmp_path, document):
    done = CliRunner().invoke(app, ["report", str(RUN), "-o", str(tmp_path / "run.html")])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"{len(document['claims'])} held of {len(document['claims'])} claims"
    assert (tmp_path / "run.html").read_text() == render(document)
    shown = CliRunner().invoke(app, ["report", str(RUN)])
    assert shown.exit_code == 0
    assert "linear-mse-deep" in shown.stdout


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"claims": [1]}'])
def test_a_file_that_is_no_run_is_one_line_and_exit_code_2(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    done = CliRunner().invoke(app, ["report", str(path), "-o", str(tmp_path / "run.html")])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aeclaims: report: {path}: ")
    assert not (tmp_path / "run.html").exists()


def test_a_page_that_cannot_be_written_is_one_line_and_exit_code_2(tmp_path):
    done = CliRunner().invoke(app, ["report", str(RUN), "-o", str(tmp_path / "no" / "run.html")])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
