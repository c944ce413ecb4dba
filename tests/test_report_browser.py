"""The report in a browser: it looks, moves, sorts, finds, prints and reads as it should."""

import base64
import importlib.util
import itertools
import re
from pathlib import Path

import pytest
import skimage.data
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By

from pipeline import cli
from tests import browser
from tests.jobs import run

pytestmark = browser.needed

HOSTILE = "<img src=x onerror=alert(1)>&quot;<script>alert(1)</script>.jpg".replace("/", "\u2215")
SOUND, BROKEN = 12, 50


@pytest.fixture(scope="module")
def page(tmp_path_factory, models):
    """A report with pictures, failures, groups, and two pages of records."""
    folder = tmp_path_factory.mktemp("browser")
    archive = folder / "archive"
    archive.mkdir()
    coffee = skimage.data.coffee()
    Image.fromarray(coffee[:300]).save(archive / HOSTILE)
    Image.fromarray(skimage.data.chelsea()).save(archive / "chelsea.png")
    for number in range(SOUND - 2):
        top, left = 20 * number, 30 * number
        Image.fromarray(coffee[top : top + 40, left : left + 60]).save(archive / f"{number}.png")
    for number in range(BROKEN):
        (archive / f"bad {number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    output = folder / "out"
    recipe = "oneof(gaussian_noise:1,gaussian_noise:4,jpeg:5)"
    said = ("--model", models / "blur", "--recipe", recipe)
    run("evaluate", archive, output, *said, code=3)
    return output / "report.html"


@pytest.fixture(scope="module")
def driver():
    with browser.opened() as opened:
        yield opened


@pytest.fixture
def shown(driver, page):
    browser.requested(driver)
    browser.said(driver)
    browser.show(driver, page)
    return driver


def all_of(driver, selector):
    return driver.find_elements(By.CSS_SELECTOR, selector)


def one(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def test_nothing_is_said_on_the_console_and_nothing_goes_over_the_network(shown, page):
    assert shown.title.endswith("Heliograph")
    for button in all_of(shown, ".controls button"):
        shown.execute_script("arguments[0].click()", button)
    assert browser.said(shown) == []
    assert browser.requested(shown) == [page.as_uri()]


def test_names_are_inert(shown):
    assert HOSTILE in one(shown, "#pictures").text
    assert not all_of(shown, "img[src='x']")
    search = one(shown, "#search")
    search.send_keys("onerror")
    assert one(shown, "#records tbody th").text == HOSTILE
    assert not all_of(shown, "#records img, #records script")
    assert browser.said(shown) == []  # an alert would have stopped the driver


def slider_of(driver):
    stage = one(driver, ".stage")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    return stage, one(stage, "input[type=range]")


def at(stage):
    asked = "return getComputedStyle(arguments[0]).getPropertyValue('--at')"
    return float(stage.parent.execute_script(asked, stage).rstrip("%"))


def test_the_slider_moves_by_mouse(shown):
    stage, slider = slider_of(shown)
    width = stage.size["width"]
    assert at(stage) == 50
    ActionChains(shown).move_to_element(stage).click_and_hold().move_by_offset(
        round(width / 4), 0
    ).release().perform()
    assert at(stage) == pytest.approx(75, abs=2)
    line = one(stage, ".line").rect
    assert line["x"] - stage.rect["x"] == pytest.approx(0.75 * width, abs=0.02 * width)
    front = one(stage, ".front").value_of_css_property("clip-path")
    assert float(re.search(r"([\d.]+)%", front)[1]) == pytest.approx(25, abs=2)
    assert slider.get_attribute("aria-valuetext").startswith(f"{slider.get_attribute('value')} %")


def test_the_slider_moves_by_touch(shown):
    stage, _ = slider_of(shown)
    width = stage.size["width"]
    finger = PointerInput(interaction.POINTER_TOUCH, "finger")
    touch = ActionBuilder(shown, mouse=finger)
    touch.pointer_action.move_to(stage, 0, 0).pointer_down()
    touch.pointer_action.move_to(stage, round(-width / 8), 0)
    touch.pointer_action.move_to(stage, round(-width / 4), 0).pointer_up()
    touch.perform()
    assert at(stage) == pytest.approx(25, abs=3)


def test_the_slider_moves_by_keyboard_and_shows_where_the_focus_is(shown):
    stage, slider = slider_of(shown)
    selects = all_of(one(shown, ".viewer"), "select")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert at(stage) == 53
    slider.send_keys(Keys.HOME)
    assert at(stage) == 0
    assert slider.get_attribute("aria-valuetext") == "0 % Damaged, 100 % Restored"
    assert stage.value_of_css_property("outline-style") == "solid"
    slider.send_keys(Keys.TAB)
    assert shown.switch_to.active_element == selects[0]


def test_layers_are_chosen_and_pixels_are_shown_as_they_are(shown):
    viewer = one(shown, f".viewer[data-name='{HOSTILE}']")
    stage = one(viewer, ".stage")
    left, right = all_of(viewer, "select")
    assert [option.text for option in all_of(left, "option")] == [
        *("Original", "Damaged", "Restored", "Difference"),
    ]
    before = one(stage, ".front").get_attribute("src")
    left.send_keys("Original")
    assert one(stage, ".front").get_attribute("src") != before
    assert one(stage, ".tag.left").text == "Original"
    right.send_keys("Difference")
    assert one(stage, ".tag.right").text == "Difference"
    button = one(viewer, "button")
    shown.execute_script("arguments[0].click()", button)
    assert button.get_attribute("aria-pressed") == "true"
    front = one(stage, ".front")
    assert front.value_of_css_property("image-rendering") == "pixelated"
    assert shown.execute_script("return arguments[0].naturalWidth", front) == 160
    assert stage.size["width"] == pytest.approx(stage.size["height"], abs=1)


def column(driver, place):
    return [cell.text for cell in all_of(driver, f"#records tbody tr > :nth-child({place})")]


def numbers(texts):
    return [float(text.replace("\u2212", "-")) for text in texts if text]


def test_the_table_is_sorted_by_any_column_and_what_is_empty_comes_last(shown):
    assert one(shown, "#found").text == f"{SOUND + BROKEN} of {SOUND + BROKEN} records"
    headings = [heading.text for heading in all_of(shown, "#records thead th")]
    place = headings.index("PSNR, gain") + 1
    button = one(shown, f"#records thead th:nth-child({place}) button")
    heading = one(shown, f"#records thead th:nth-child({place})")
    for key, order in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
        button.send_keys(key)
        assert heading.get_attribute("aria-sort") == order
        texts = column(shown, place)
        assert len(texts) == 50
        assert all(texts[:SOUND])
        assert not any(texts[SOUND:]), "what failed has no score"
        found = numbers(texts)
        assert found == sorted(found, reverse=order == "descending")
        assert len(set(found)) > SOUND / 2
    button = one(shown, "#records thead th:first-child button")
    button.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") is None
    one(shown, "#next").send_keys(Keys.ENTER)
    assert one(shown, "#page").text == "Page 2 of 2"
    assert not one(shown, "#next").is_enabled()
    one(shown, "#previous").send_keys(Keys.ENTER)
    bad = [name for name in column(shown, 1) if name.startswith("bad")]
    assert bad == [f"bad {number}.png" for number in range(len(bad))]  # 2 before 10


def test_the_table_is_searched(shown):
    search, found = one(shown, "#search"), one(shown, "#found")
    search.send_keys("CHELSEA")
    assert column(shown, 1) == ["chelsea.png"]
    assert found.text == f"1 of {SOUND + BROKEN} records"
    search.clear()
    search.send_keys("jpeg quality png")  # all of the words, in any column
    assert column(shown, 1)
    assert set(column(shown, 3)) == {"jpeg:quality=7"}
    search.clear()
    search.send_keys("nothing is called so")
    assert column(shown, 1) == []
    search.clear()
    search.send_keys(Keys.BACKSPACE)
    one(shown, "#status").send_keys("failed")
    assert set(column(shown, 2)) == {"failed"}
    assert found.text == f"{BROKEN} of {SOUND + BROKEN} records"


def luminance(colour):
    red, green, blue = (int(value) / 255 for value in re.findall(r"\d+", colour)[:3])
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (red, green, blue)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_in_light_and_dark_and_can_be_switched(driver, page, scheme):
    browser.show(driver, page, scheme=scheme)
    body = one(driver, "body")

    def is_dark():
        return luminance(body.value_of_css_property("background-color")) < 0.2

    assert is_dark() == (scheme == "dark")
    switch = one(driver, "#theme")
    assert switch.get_attribute("aria-label") == (
        "Switch to light" if scheme == "dark" else "Switch to dark"
    )
    switch.click()
    assert is_dark() != (scheme == "dark")
    switch.click()
    assert is_dark() == (scheme == "dark")


def axe():
    """The script of axe-core, from the wheel that brings it."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None, "make setup installs axe-playwright-python for its axe.min.js"
    return (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8")


def violations(driver):
    """Let axe-core look at the page that is shown."""
    # Through the driver, which the page's policy does not bind.
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": axe()})
    driver.set_script_timeout(120)
    result = driver.execute_async_script("axe.run(document).then(arguments[0])")
    assert len(result["passes"]) > 20
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in result["violations"]]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_axe_finds_nothing_that_keeps_readers_of_screens_out(driver, page, tmp_path, width, scheme):
    path = tmp_path / "report.html"  # of few pictures, which are all alike to it
    assert cli.main(["report", str(page.parent), "--to", str(path), "--pictures", "1"]) == 0
    browser.show(driver, path, width=width, scheme=scheme)
    assert violations(driver) == []


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_no_screen_has_to_be_scrolled_sideways(driver, page, width):
    browser.show(driver, page, width=width)
    root = "document.documentElement"
    assert driver.execute_script(f"return {root}.scrollWidth") <= width
    for stage in all_of(driver, ".stage"):
        assert stage.rect["x"] >= 0
        assert stage.rect["x"] + stage.rect["width"] <= width


def test_headings_are_in_order_and_sections_are_named(shown):
    levels = [int(heading.tag_name[1]) for heading in all_of(shown, "h1, h2, h3, h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for link in all_of(shown, "nav a"):
        assert all_of(shown, link.get_dom_attribute("href"))


def test_it_prints_with_all_sections_and_every_layer(shown, tmp_path):
    printed = shown.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    data = base64.b64decode(printed["data"])
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") > 2
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for name in ("verdict", "scores", "groups", "pictures", "reasons", "facts"):
            assert one(shown, f"#{name} h1, #{name} h2").is_displayed(), name
        assert not one(shown, ".stage").is_displayed()
        assert not one(shown, "nav").is_displayed()
        assert all(picture.is_displayed() for picture in all_of(shown, ".layer .full"))
        assert luminance(one(shown, "body").value_of_css_property("background-color")) > 0.99
    finally:
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_all_pictures_are_there(driver, page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.show(driver, page)
        pictures = all_of(driver, ".layer .full")
        assert len(pictures) > 8
        assert all(picture.is_displayed() for picture in pictures)
        assert not one(driver, "#search").is_displayed()
        assert "This table needs scripts" in one(driver, "noscript").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_comparison_works_in_the_same_way(driver, page, tmp_path, models):
    other = tmp_path / "other"
    archive = page.parent.parent / "archive"
    recipe = "oneof(gaussian_noise:1,gaussian_noise:4,jpeg:5)"
    said = ("--model", models / "identity", "--recipe", recipe, "--only", "?.png")
    run("evaluate", archive, other, *said, "--only", "chelsea.png")
    path = tmp_path / "comparison.html"
    assert cli.main(["report", str(page.parent), str(other), "--to", str(path)]) == 0
    browser.said(driver)
    browser.show(driver, path)
    assert [option.text for option in all_of(one(driver, ".viewer"), "select option")][:4] == [
        *("Original", "out", "other", "Difference"),
    ]
    stage, slider = slider_of(driver)
    slider.send_keys(Keys.END)
    assert at(stage) == 100
    assert one(driver, "#found").text == "11 of 11 records"
    assert violations(driver) == []
    assert browser.said(driver) == []
