"""The page of a run in headless Chromium: no errors; sorting and filtering; curves; phones; the dark theme."""

import copy
import json
import shutil
import time

import pytest

from aeclaims.report.html import render
from tests.unit.test_page import RUN, hostile


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="not exercised: the package playwright is not installed"
    )
    with sync_api.sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"not exercised: no Chromium here ({str(error).splitlines()[0]})")
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, tmp_path):
    """visit(document) opens its page from a file; the test fails if the page logs an error or makes a request."""
    complaints = []

    def opened(document, **settings):
        (tmp_path / "run.html").write_text(render(document), encoding="utf-8")
        page = browser.new_context(**settings).new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
        )
        page.goto(f"file://{tmp_path / 'run.html'}")
        return page

    yield opened
    assert complaints == []


@pytest.fixture(scope="module")
def document():
    document = json.loads(RUN.read_text())
    document["claims"][4]["verdict"], document["claims"][6]["verdict"] = "failed", "not exercised"
    return document


def large():
    """Thirty claims of 256 seeds, 60 epochs each."""
    document = json.loads(RUN.read_text())
    for claim in document["claims"]:
        del claim["trainings"][1:]
        for training in claim["trainings"]:
            training["epochs"] = list(range(1, 61))
            training["curves"] = [[1 / (epoch + seed) for epoch in range(1, 61)] for seed in range(256)]
            training["quantiles"] = dict.fromkeys(training["quantiles"], training["curves"][0])
            training["excess"] = [1 / (60 + seed) for seed in range(256)]
    return document


def shown(page):
    return page.locator("#table tbody tr:visible th").all_inner_texts()


def ink(page, canvas):
    """The number of painted pixels of a canvas."""
    return page.evaluate(
        """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
                              .filter((value, index) => index % 4 === 3 && value).length""",
        canvas,
    )


def test_the_table_sorts_by_each_of_its_columns(visit, document):
    page = visit(document)
    ids = [claim["id"] for claim in document["claims"]]
    assert shown(page) == ids
    page.get_by_role("button", name="claim", exact=True).click()
    assert shown(page) == sorted(ids)
    assert page.locator("th.claim[scope=col]").get_attribute("aria-sort") == "ascending"
    seconds = page.get_by_role("button", name="seconds", exact=True)
    seconds.press("Enter")
    seconds.press("Enter")
    slowest = sorted(document["claims"], key=lambda claim: -claim["seconds"])
    assert shown(page)[:5] == [claim["id"] for claim in slowest[:5]]
    assert page.locator("th.seconds").get_attribute("aria-sort") == "descending"
    assert page.locator("th.claim[scope=col]").get_attribute("aria-sort") == "none"


def test_the_table_and_the_claims_are_filtered_by_words_and_verdicts(visit, document):
    page = visit(document)
    page.get_by_label("Filter").fill("listing share")
    assert shown(page) == ["listing-converges"]
    assert page.locator("article:visible").count() == 1
    assert page.get_by_role("status").inner_text() == f"1 of {len(document['claims'])} claims shown"
    page.get_by_label("Filter").fill("")
    page.get_by_role("button", name="held", exact=True).click()
    assert shown(page) == [document["claims"][4]["id"], document["claims"][6]["id"]]
    assert page.get_by_role("button", name="held", exact=True).get_attribute("aria-pressed") == "false"
    assert document["claims"][6]["id"] in page.locator("#not-exercised").inner_text()


def test_curves_and_histograms_are_drawn_when_they_come_into_sight(visit, document):
    page = visit(document)
    for kind in ("curves", "histogram"):
        canvas = page.locator(f"#claim-3 canvas.{kind}")
        canvas.scroll_into_view_if_needed()
        page.wait_for_function("canvas => canvas.dataset.drawn", arg=canvas.element_handle())
        assert ink(page, canvas.element_handle()) > 1000


def median_at(page, canvas):
    """The number of pixels in the median's colour, in each tenth of the picture from its axis to its right end."""
    return page.evaluate(
        """canvas => {
        const c = canvas.getContext("2d"), left = 52 * canvas.width / canvas.clientWidth, counts = new Array(10).fill(0);
        c.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--median");
        const wanted = [1, 3, 5].map(at => parseInt(c.fillStyle.slice(at, at + 2), 16));
        const pixels = c.getImageData(0, 0, canvas.width, canvas.height).data;
        for (let at = 0; at < pixels.length; at += 4) {
            const tenth = Math.floor((at / 4 % canvas.width - left) / (canvas.width - left) * 10);
            if (tenth >= 0 && pixels[at + 3] > 128 && wanted.every((part, of) => Math.abs(part - pixels[at + of]) < 16))
                counts[tenth]++;
        }
        return counts; }""",
        canvas,
    )


def test_losses_that_are_missing_leave_a_gap(visit, document):
    """They are missing from epoch 10 to epoch 1000 of 10,000: a quarter to three quarters of a logarithmic axis."""
    other = copy.deepcopy(document)
    (training,) = other["claims"][2]["trainings"]
    epochs = [round(10 ** (power / 15)) for power in range(61)]
    losses = [None if 10 < epoch < 1000 else 1 / epoch for epoch in epochs]
    training |= {
        "epochs": epochs,
        "curves": [losses, [None] * 61, [*losses[:-1], 0.0]],
        "floors": {},
        "excess": [],
        "quantiles": dict.fromkeys(training["quantiles"], losses),
    }
    page = visit(other)
    canvas = page.locator("#claim-3 canvas.curves")
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("canvas => canvas.dataset.drawn", arg=canvas.element_handle())
    drawn = [count > 0 for count in median_at(page, canvas.element_handle())]
    assert drawn == [True, True, True, False, False, False, False, True, True, True]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_follow_the_room(visit, document, scheme):
    page = visit(document, color_scheme=scheme)
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (red > 200) == (scheme == "light")


def test_a_phone_of_380_pixels_needs_no_scrolling_sideways(visit, document):
    page = visit(document, viewport={"width": 380, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.locator("td.statement").first.is_hidden()
    assert page.locator("article .sentence").first.is_visible()


def test_the_keyboard_reaches_the_table_first(visit, document):
    page = visit(document)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdicts"
    page.keyboard.press("Enter")
    assert page.url.endswith("#verdicts")


def test_thirty_claims_of_256_seeds_open_within_a_second(visit):
    page = visit(large())
    begin = time.perf_counter()
    page.reload()
    canvas = page.locator("#claim-1 canvas.curves")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000, (
        time.perf_counter() - begin
    )
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("canvas => canvas.dataset.drawn", arg=canvas.element_handle())
    milliseconds = page.evaluate("""() => { const begin = performance.now(); dispatchEvent(new Event('beforeprint'));
                                           return performance.now() - begin; }""")
    assert milliseconds < 3000  # all sixty pictures at once, for printing


def test_hostile_text_stays_text(visit, document):
    page = visit(hostile(copy.deepcopy(document)))
    page.locator("article").first.hover()
    assert page.evaluate("window.hacked === undefined")
    assert "window.hacked = 1" in page.locator("article").first.inner_text()
