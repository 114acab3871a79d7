"""The committed pages match the records of the claims and the committed run."""

import copy
import json
from pathlib import Path

import pytest

from tools import claim_pages as pages
from tools import rooms

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "claims"


@pytest.fixture(scope="module")
def document():
    return json.loads((FOLDER / "run.json").read_text())


def test_every_page_is_as_generated(document):
    texts = pages.pages(document)
    assert {path.name for path in FOLDER.glob("*.md")} == set(texts)
    for name, text in texts.items():
        assert (FOLDER / name).read_text() == text, f"{name}: generate the pages again, as docs/claims/README.md says"


def test_every_claim_that_trains_has_its_picture(document):
    wanted = {f"{result['id']}.png" for result in document["claims"] if pages.has_picture(result)}
    assert {path.name for path in FOLDER.glob("pictures/*.png")} == wanted
    assert len(wanted) > 20


def test_every_claim_of_the_run_held_on_the_reference(document):
    assert {result["verdict"] for result in document["claims"]} == {"held"}
    assert document["backend"] == "numba"


@pytest.mark.parametrize("field", ["source", "statement", "finding", "caveat", "kind"])
def test_a_run_of_other_claims_is_refused(document, field):
    other = copy.deepcopy(document)
    other["claims"][3][field] = "something else"
    with pytest.raises(
        pages.PagesDisagree, match=f"claim {other['claims'][3]['id']}: the run has {field} 'something else'"
    ):
        pages.pages(other)


def test_a_run_that_lacks_a_claim_is_refused(document):
    other = {**document, "claims": document["claims"][1:]}
    with pytest.raises(pages.PagesDisagree, match="is not in the run"):
        pages.pages(other)


def test_pages_are_written_with_pictures_and_stale_ones_go(document, tmp_path):
    few = tmp_path / "few"
    (few / "pictures").mkdir(parents=True)
    (few / "gone.md").write_text("a claim of old")
    assert pages.main([str(FOLDER / "run.json"), str(few)]) == 0
    assert {path.name for path in few.glob("*.md")} == {path.name for path in FOLDER.glob("*.md")}
    assert (few / "pictures" / "linear-mse.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_read_is_an_error_and_no_traceback(tmp_path, capsys):
    (tmp_path / "broken.json").write_text("{")
    assert pages.main([str(tmp_path / "broken.json"), str(tmp_path)]) == 2
    assert "JSONDecodeError" in capsys.readouterr().err
    assert pages.main([]) == 2


def test_the_picture_of_the_rooms_is_as_generated():
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.picture(), "run python -m tools.rooms"
