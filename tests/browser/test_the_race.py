"""Chapter 00 as a learner meets it: JupyterLab in a real browser, all cells run, the live race watched and clicked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.kernel, pytest.mark.guest]

CHAPTER = "00-the-race.ipynb"
OPENING = 60_000  # milliseconds
RACE = 240_000
"""Milliseconds for a race: with the processor in software, on a machine with other things to do."""
ERRORS = "[data-mime-type='application/vnd.jupyter.error']"
LIVE_OR_FAILED = f"""() => document.querySelector("{ERRORS}") !== null
    || [...document.querySelectorAll('.widget-html text')].some(text => text.textContent === 'the race is on')"""
DONE_OR_FAILED = rf"""() => {{
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(each => each.textContent);
    return document.querySelector("{ERRORS}") !== null || prompts.every(text => /\[\d+\]/.test(text));
}}"""
CONTRAST = """element => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(part => part / 255).map(
            part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = light(getComputedStyle(element.querySelector('rect[rx="10"]')).fill);
    return [...element.querySelectorAll('text')].map(text => light(getComputedStyle(text).fill)).map(
        ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
}"""


@pytest.fixture(scope="module")
def chapter(visit: Callable[[str], Any]) -> Any:
    """The chapter, opened, with all its cells run from top to bottom, and the race seen while it was on."""
    watched = visit(CHAPTER)
    page = watched.page
    page.wait_for_selector(".jp-Notebook", timeout=OPENING)
    page.wait_for_selector(".jp-StatusBar-Widget :text('| Idle')", timeout=OPENING)
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    page.wait_for_selector(".jp-StatusBar-Widget :text('| Busy')", timeout=OPENING)
    for awaited in (LIVE_OR_FAILED, DONE_OR_FAILED):
        page.wait_for_function(awaited, timeout=RACE)
        assert page.locator(ERRORS).all_text_contents() == []
    return watched


def race(page: Any) -> Any:
    """The live picture: the one in a widget, not in a saved output."""
    return page.locator(".widget-html svg.mc-race")


def words(page: Any) -> list[str]:
    """Every line of text that the live picture shows."""
    return list(race(page).locator("text").all_text_contents())


def test_all_cells_ran_without_an_error(chapter: Any) -> None:
    page = chapter.page
    page.wait_for_selector(".jp-StatusBar-Widget :text('| Idle')", timeout=OPENING)
    assert page.locator(ERRORS).all_text_contents() == []
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_text_contents() == []


def test_the_live_picture_tells_the_whole_race(chapter: Any) -> None:
    shown = words(chapter.page)
    assert "finished, and all ended" in shown
    for milestone in ("process", "hypervisor", "kernel", "userspace"):
        assert any(re.fullmatch(rf"{milestone} [\d.]+ m?s", line) for line in shown), (milestone, shown)
    assert len([line for line in shown if re.fullmatch(r"workload [\d.]+ m?s", line)]) == 2
    assert len([line for line in shown if re.fullmatch(r"\d+ MiB", line)]) == 2
    assert [line for line in shown if line in ("accelerator: kvm", "accelerator: tcg")]
    assert any(re.search(r"[\d.]+ × the time, [\d.]+ × the memory", line) for line in shown)


def test_the_figure_is_there(chapter: Any) -> None:
    figures = chapter.page.locator(".jp-RenderedImage img[src^='data:image/png']")
    assert figures.count() == 1
    assert figures.evaluate("image => image.naturalWidth") > 600


def test_it_can_be_read_in_both_themes_and_from_the_last_row(chapter: Any, artefacts: Path) -> None:
    page = chapter.page
    assert min(race(page).evaluate(CONTRAST)) >= 7  # WCAG's AAA
    race(page).screenshot(path=artefacts / "race-light.png")
    theme(page, "JupyterLab Dark")
    assert min(race(page).evaluate(CONTRAST)) >= 7
    race(page).screenshot(path=artefacts / "race-dark.png")
    theme(page, "JupyterLab Light")
    # As tall as a 20 pixel letter on a 1920 pixel wide projection, a fiftieth of the picture's width at least.
    smallest = min(
        race(page).locator("text").evaluate_all("all => all.map(text => parseFloat(text.getAttribute('font-size')))")
    )
    assert smallest / 1040 >= 1 / 52


def theme(page: Any, name: str) -> None:
    """Choose a theme in the menu, and wait until it is there."""
    page.click(".lm-MenuBar-itemLabel:text-is('Settings')")
    page.hover("text='Theme'")
    page.click(f".lm-Menu-itemLabel:text-is('{name}')")
    light = "false" if "Dark" in name else "true"
    page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached", timeout=OPENING)
    page.wait_for_function(
        f"""() => getComputedStyle(document.body).getPropertyValue('--jp-layout-color0').trim().match(
            /^(white|#fff|#ffffff)$/) {"!=" if light == "true" else "=="} null""",
        timeout=OPENING,
    )


def test_again_races_again_and_stop_ends_it(chapter: Any) -> None:
    page = chapter.page
    page.get_by_role("button", name="Again").click()
    race(page).get_by_text("the race is on").wait_for(timeout=RACE)
    page.get_by_role("button", name="Stop").click()
    race(page).get_by_text("stopped, and all ended").wait_for(timeout=RACE)
    assert page.get_by_role("button", name="Stop").is_disabled()
    assert page.get_by_role("button", name="Again").is_enabled()


def test_a_picture_of_the_chapter_is_kept(chapter: Any, artefacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = chapter.page
    page.get_by_role("button", name="Again").click()
    race(page).get_by_text("finished, and all ended").wait_for(timeout=RACE)
    page.keyboard.press("Control+b")  # the file browser makes room
    page.set_viewport_size({"width": 1400, "height": 1120})
    race(page).scroll_into_view_if_needed()
    page.screenshot(path=artefacts / "race-in-jupyterlab.png")
    tall = page.evaluate("() => document.querySelector('.jp-WindowedPanel-inner').scrollHeight")
    page.set_viewport_size({"width": 1400, "height": min(12_000, tall + 150)})
    page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0)")
    page.screenshot(path=artefacts / "chapter-00.png")
    page.set_viewport_size({"width": 1400, "height": 1000})
    with capsys.disabled():
        print(f"\npictures of the chapter: {artefacts}")
    assert (artefacts / "chapter-00.png").stat().st_size > 20_000


def test_nothing_was_complained_of_and_nobody_else_was_asked(chapter: Any) -> None:
    assert chapter.errors == []
    assert chapter.failed == []
    assert chapter.foreign == []
