"""The page in a real browser: it moves, sorts, loads nothing, says nothing is wrong, and everyone can use it."""

import base64
import io
import json
import shutil
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

import sparring.report
from sparring.core.results import Estimate
from sparring.report.format import TIMES

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs Debian's chromium (apt-get install chromium)", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the dev extras)")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PAPER = {"width": 718, "height": 1000}  # A4 within its margins
PATIENCE = 10_000  # milliseconds: a machine may be busy


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lively_page(living, tmp_path_factory):
    return sparring.report.write(living, tmp_path_factory.mktemp("lively"))


@pytest.fixture
def show(browser):
    """Give a function that opens a page; at the end nothing may have gone wrong in it, or been asked of a network."""
    contexts, wrong = [], []

    def asked(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            wrong.append(request.url)

    def show(path, viewport=WIDE, scheme="light", **settings):
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, offline=True, reduced_motion="reduce", **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(f"a script of the record's ran: {dialog.message}"))
        page.on("request", asked)
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def pixels(page, canvas):
    """Return what a canvas shows as (H, W, 3)."""
    uri = page.evaluate("(id) => document.getElementById(id).toDataURL('image/png')", canvas)
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def slide(page, stop):
    """Drag the slider to a stop, as a pointer does, and wait until the image has followed."""
    page.locator("#eps").fill(str(stop))
    now = page.locator("#eps-now").text_content()
    label = page.locator("#attacked-image").get_attribute("aria-label")
    if not label.endswith(f"eps {now.removesuffix(' (clean)')}"):
        page.wait_for_function(
            "(eps) => document.getElementById('attacked-image').ariaLabel.endsWith(`eps ${eps}`)",
            arg=now.removesuffix(" (clean)"),
        )


def arrays(result, row):
    return result.rows[row].evaluation.arrays


def frame(result, row, place, stop):
    """Return what the record has at a stop of the slider."""
    kept = arrays(result, row)
    image = 255 * kept["gallery/x"][place] if stop == 0 else kept["gallery/at"][stop - 1, place]
    return np.rint(image).astype(np.uint8).transpose(1, 2, 0)


def test_every_chart_is_drawn_when_it_comes_near(show, written):
    page = show(written)
    charts = page.locator("[data-chart]")
    assert charts.count() == 8
    assert page.locator(".chart.js-plotly-plot").count() < 8
    for place in range(8):
        charts.nth(place).scroll_into_view_if_needed()
        page.wait_for_function("(n) => document.querySelectorAll('[data-chart]')[n].querySelector('svg')", arg=place)


def test_the_slider_shows_the_record_s_images_to_the_byte_and_what_each_model_says(show, lively_page, living):
    page = show(lively_page)
    for stop, words in ((0, "✓ right"), (1, "✓ holds"), (2, "✗ fooled"), (4, "✓ holds")):
        slide(page, stop)
        np.testing.assert_array_equal(pixels(page, "attacked-image"), frame(living, 0, 0, stop))
        assert page.locator('[data-model="0"] .mark').text_content().startswith(words)
        assert words in page.locator("#told").text_content()
    assert page.locator("#eps").get_attribute("aria-valuetext") == "0.4: ✓ holds"
    assert page.locator('[data-model="1"] .mark').text_content() == "not attacked at this eps"
    slide(page, 3)
    bars = page.locator('[data-model="0"] .bars > li').all_inner_texts()
    assert [" ".join(bar.split()) for bar in bars] == ["true zero 10.0 %", "two 80.0 %", "one 10.0 %"]
    assert "Fooled in all: 4 of 4 models." in page.locator("#told").text_content()


def test_what_is_added_is_magnified_about_grey(show, lively_page, living):
    page = show(lively_page)
    slide(page, 0)
    assert (pixels(page, "added-image") == 128).all()
    slide(page, 2)
    change = frame(living, 0, 0, 2).astype(int) - frame(living, 0, 0, 0)
    factor = 127.5 // np.abs(change).max()
    assert f"{TIMES} {factor:.0f}" in page.locator("#factor").text_content()
    np.testing.assert_allclose(pixels(page, "added-image"), 127.5 + factor * change, atol=0.51)


def test_an_image_and_a_model_are_picked_by_pointer(show, lively_page, living):
    page = show(lively_page)
    page.locator("#thumbs label").nth(2).click()
    page.locator("#attacked").select_option(label="PGD training")
    slide(page, 2)
    page.wait_for_function("() => document.getElementById('attacked-image').ariaLabel.startsWith('Example 72,')")
    np.testing.assert_array_equal(pixels(page, "attacked-image"), frame(living, 2, 2, 2))
    assert page.locator(".models .chosen b").text_content() == "PGD training"


def test_everything_in_the_gallery_works_by_keyboard(show, lively_page, living):
    page = show(lively_page)
    page.locator("#thumbs input").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "eps"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "() => document.getElementById('attacked-image').ariaLabel === 'Example 71, a zero, at eps 0.1'"
    )
    assert page.locator("#told").text_content().startswith("standard at eps 0.1: ✓ holds, says zero; it is zero.")
    np.testing.assert_array_equal(pixels(page, "attacked-image"), frame(living, 1, 1, 1))


def test_another_model_keeps_the_eps_or_takes_the_nearest_below(show, lively_page):
    page = show(lively_page)
    slide(page, 4)
    page.locator("#attacked").select_option(label="standard")
    assert page.locator("#eps-now").text_content() == "0.3"


def test_a_table_sorts_both_ways_by_keyboard_and_can_be_narrowed(show, lively_page):
    page = show(lively_page)
    table = page.locator("#verdict table")
    button = table.get_by_role("button", name="Robust %")

    def robust():
        return [float(cell) for cell in table.locator("tbody tr td:nth-child(4) .value").all_text_contents()]

    button.focus()
    page.keyboard.press("Enter")
    *trusted, failed = robust()
    assert trusted == sorted(trusted, reverse=True)
    assert table.locator("th[aria-sort=descending]").text_content() == "Robust %"
    button.click()
    assert robust() == [*sorted(trusted), failed]
    assert failed < min(trusted)
    assert table.locator("th[aria-sort=ascending]").count() == 1
    table.get_by_role("button", name="Rank").click()
    assert table.locator("tbody .rank").all_inner_texts()[0] == "1"
    page.locator("#figures select").select_option("clean accuracy")
    assert page.locator("#figures tbody tr:visible").count() == 4
    assert page.locator("#figures tbody tr.again:visible").count() == 0


def test_the_matrix_leads_to_the_evidence(show, lively_page):
    page = show(lively_page)
    page.locator("#audit .matrix a").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#audit-0[open]").count() == 1
    assert page.locator("#audit-0 td.outcome").all_inner_texts() == ["✗ failed", "▲ warning", "• note", "✓ passed"]


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("which", ["lively", "awkward"])
def test_axe_finds_nothing_serious(show, lively_page, written, viewport, scheme, which):
    source = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (the dev extras)")
    page = show(lively_page if which == "lively" else written, viewport, scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.evaluate((files(source.__name__) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((results) => results.violations)")
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps([(e["id"], [n["html"][:200] for n in e["nodes"]]) for e in serious], indent=1)


def test_long_names_of_classes_wrap_on_a_phone(show, living, tmp_path):
    classes = ("a rather long name of ImageNet, with its synonym, and another one", "one", "two")
    rows = tuple(replace(row, evaluation=replace(row.evaluation, classes=classes)) for row in living.rows)
    page = show(sparring.report.write(replace(living, rows=rows), tmp_path), PHONE)
    slide(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    inside = "(marks) => marks.every((mark) => mark.scrollWidth <= mark.clientWidth)"
    assert page.locator(".models .mark").evaluate_all(inside)


@pytest.mark.parametrize("opened", [False, True])
def test_a_phone_never_scrolls_sideways(show, lively_page, written, opened):
    for path in (lively_page, written):
        page = show(path, PHONE)
        page.evaluate(
            "(open) => { for (const part of document.querySelectorAll('details')) part.open = open; }", opened
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_it_prints_open_and_without_what_paper_cannot_do(show, lively_page):
    page = show(lively_page)
    page.evaluate(
        "addEventListener('beforeprint', () => { window.held = ["
        "document.querySelectorAll('details:not([open]):not(.numbers):not(.audit)').length, "
        "[...document.querySelectorAll('.audit[open]')].map((audit) => audit.id)]; })"
    )
    assert page.pdf()[:5] == b"%PDF-"
    assert page.evaluate("window.held") == [0, ["audit-0"]]  # of the audits the failed one
    assert page.locator("[data-chart]").count() == page.locator(".chart.js-plotly-plot").count()
    page.emulate_media(media="print")
    assert not page.locator("#explorer").is_visible()
    assert not page.locator("nav").is_visible()


def test_the_heads_of_tables_come_again_on_each_sheet_of_paper(show, living, tmp_path):
    """Chromium repeats no head that holds a button, or that is sticky."""
    rows = tuple(replace(row, name=f"{row.name} {n}") for n in range(10) for row in living.rows)
    page = show(sparring.report.write(replace(living, rows=rows), tmp_path), PAPER)
    page.emulate_media(media="print")
    assert page.locator(".tall").count()
    look = "(parts, what) => [...new Set(parts.map((part) => getComputedStyle(part)[what]))]"
    assert page.locator("thead button").evaluate_all(look, "display") == ["contents"]
    assert page.locator("thead th").evaluate_all(look, "position") == ["static"]


def test_only_what_scrolls_is_a_stop_for_the_tab_key(show, lively_page):
    page = show(lively_page)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.wait_for_function("() => document.querySelector('[tabindex]')")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            "() => [...document.querySelectorAll('.scroll, pre')].every((part) => part.hasAttribute('tabindex') === "
            "(part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1))"
        )
    labels = page.locator(".scroll").evaluate_all("(parts) => parts.map((part) => part.ariaLabel)")
    assert max(map(len, labels)) < 80
    assert page.locator(".further[tabindex]").count() == page.locator(".further").count() > 0


def test_a_table_that_fits_is_not_faded_out(show, make_row, make_study, tmp_path):
    """The mark of clean accuracy stuck out by its own width at 100 %."""
    right = make_row("right")
    right = replace(right, evaluation=replace(right.evaluation, clean=Estimate(1.0, 0.99, 1.0, 500)))
    page = show(sparring.report.write(make_study(right, make_row("other")), tmp_path))
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.locator("#verdict .scroll.further").count() == 0


def test_the_glossary_opens_from_the_top_by_keyboard(show, lively_page):
    page = show(lively_page)
    assert not page.locator("#words dt").first.is_visible()
    page.locator("#verdict a[href='#words']").focus()
    page.keyboard.press("Enter")
    assert page.locator("#words dt").first.is_visible()


def test_no_table_is_wider_than_a_page(show, lively_page, written):
    for path in (lively_page, written):
        page = show(path, PAPER)
        page.emulate_media(media="print")
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        widths = page.locator("table").evaluate_all("(tables) => tables.map((t) => t.getBoundingClientRect().width)")
        assert sum(width > 0 for width in widths) > 4  # some are for screens alone
        assert max(widths) <= PAPER["width"]


def test_the_matrix_of_twenty_models_fits_on_a_page(show, living, tmp_path):
    """Its columns are as narrow as a symbol, and a screen reader still reads the words."""
    names = [f"defence {number} of a name that is rather long" for number in range(20)]
    many = replace(living, rows=tuple(replace(living.rows[0], name=name) for name in names))
    page = show(sparring.report.write(many, tmp_path), PAPER)
    page.emulate_media(media="print")
    matrix = page.locator("#audit .matrix")
    assert matrix.bounding_box()["width"] <= PAPER["width"]
    assert matrix.locator("tbody tr").first.locator("td").all_text_contents() == ["✓ passed"] * 20
    heads = matrix.locator("thead th span").all()
    assert all(head.bounding_box()["height"] > head.bounding_box()["width"] for head in heads)


def test_without_scripts_the_images_and_tables_still_stand(show, lively_page):
    page = show(lively_page, java_script_enabled=False)
    assert not page.locator("#explorer").is_visible()
    assert page.locator(".strips img").first.is_visible()
    assert page.locator("noscript").is_visible()
    assert not page.locator(".filter").first.is_visible()


def test_it_shows_soon(show, lively_page):
    """A second on a quiet machine; here only that it is not minutes."""
    page = show(lively_page)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") < PATIENCE
