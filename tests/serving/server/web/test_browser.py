"""The web page in a real Chromium, used with a mouse, with a keyboard and on a phone."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models.network.activation_images import HEAT, HEAT_SHARE
from imgpipe.serving.server.server import ModelServer
from tests import axe, browser
from tests.images import encoded
from tests.serving.quick import quick, running
from tests.serving.server.web.conftest import CLASSES, HOSTILE, KNOWN, PAGED

pytestmark = [pytest.mark.slow, browser.needed]

ANSWERED = "document.querySelector('.classes li') && !document.querySelector('.answers.old')"
NO_REGION = "document.querySelector('#whole').disabled && !document.querySelector('.answers.old')"


def share(page: browser.Page, name: str) -> str:
    """Return the probability that the page shows for a class."""
    rows = page.run("[...document.querySelectorAll('.classes li')].map((row) => row.innerText)")
    (found,) = {row.split("\n")[-1] for row in rows if row.startswith(name)}
    return found


def choose(page: browser.Page, file: Path) -> None:
    page.choose("#file", file)
    page.wait(ANSWERED)


def drag(page: browser.Page, left: float, top: float, right: float, bottom: float) -> None:
    """Drag a region; the arguments are shares of the image's width and height."""
    box = page.run("document.querySelector('#image').getBoundingClientRect().toJSON()")
    page.drag(
        (box["x"] + left * box["width"], box["y"] + top * box["height"]),
        (box["x"] + right * box["width"], box["y"] + bottom * box["height"]),
    )


def test_the_prediction_follows_the_region(page, photos):
    choose(page, photos / "half.png")
    assert page.text(".label") == HOSTILE and share(page, "green") == "47.3 %"
    assert page.run("document.querySelectorAll('#answers img').length") == 0
    assert page.run("document.title") == "Try the model", "names are text and no HTML"
    drag(page, 0.6, 0.1, 0.95, 0.9)
    page.wait("document.querySelector('.label').innerText == 'green'")
    page.wait(ANSWERED)
    assert page.text("#status").startswith("Version 1: green, 99.")
    drag(page, 0.5, 0.5, 0.5, 0.5)
    assert page.text(".label") == "green", "a click is no region"
    page.run(
        "const left = document.querySelector('[name=left]'); left.value = '100';"
        "left.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.wait("document.querySelector('.label').innerText == 'green'")
    page.wait(ANSWERED)
    assert page.run("document.querySelector('#alert').hidden"), "the last column is a region too"
    page.run("document.querySelector('#whole').click()")
    page.wait(f"{NO_REGION} && document.querySelector('.label').innerText != 'green'")
    page.run("document.querySelector('#heat-on').click()")
    page.wait(
        "!document.querySelector('#heat').hidden && document.querySelector('#heat').width == 4"
    )
    page.run("document.querySelector('#heat-on').click()")
    page.wait("document.querySelector('#heat').hidden")


def test_the_page_says_what_the_model_knows_and_which_image_is_unlike_that(page, photos):
    page.wait("document.querySelector('#knows').innerText")
    known = f"Model colours, version 1. Knows: {', '.join(CLASSES)}."
    assert page.text("#knows") == known, "no manifest tells its accuracy"
    assert page.text("#invitation").startswith(
        f"Drop photographs of {HOSTILE}, green, or =1+1 here"
    )
    assert page.run("document.querySelectorAll('#knows *').length") == 0
    choose(page, photos / "half.png")
    assert not page.run("document.querySelector('.unlike')")
    choose(page, photos / "-<b>blue&.png")
    assert page.text(".unlike").startswith("This image is unlike all images from which the model")
    assert "unlike all images" in page.text("#status"), "it is said to people who hear the page"


def test_an_answer_is_right_or_another_or_none_and_the_image_goes_into_the_folder(
    page, photos, corrections
):
    image = photos / "half.png"
    choose(page, image)
    page.run("document.querySelector('#right').click()")
    page.wait("!document.querySelector('#corrected').hidden")
    assert str(corrections.folder) not in page.text("#corrected")
    [kept] = (corrections.folder / HOSTILE).iterdir()
    assert kept.read_bytes() == image.read_bytes()
    choice = "Object.assign(document.querySelector('#or'), {value: 'green'})"
    page.run(f"{choice}.dispatchEvent(new Event('change'))")
    page.wait("document.querySelector('#corrected').innerText.includes('Kept as green')")
    assert (corrections.folder / "green" / kept.name).exists() and not kept.exists()
    last = "Object.assign(document.querySelector('#or'), {selectedIndex: 3})"
    page.run(f"{last}.dispatchEvent(new Event('change'))")
    page.wait("document.querySelector('#corrected').innerText.includes('Not kept')")
    assert not [*corrections.folder.glob("*/*")]


def test_answers_below_the_probability_of_the_slider_are_unsure(page, photos):
    choose(page, photos / "half.png")
    slider = "Object.assign(document.querySelector('#asked'), {value: %d})"
    ask = f"{slider}.dispatchEvent(new Event('input'))"
    page.run(ask % 60)
    assert page.run("document.querySelector('#asked').clientWidth") > 100, "it can be moved"
    assert page.text(".unsure") == "Unsure, most probably" and page.text("#asked-share") == "60 %"
    page.run(ask % 40)
    assert not page.run("document.querySelector('.unsure')")
    page.choose("#folder", photos)
    page.wait("document.querySelector('#stop').hidden && document.querySelectorAll('#rows tr')[3]")
    row = "[...document.querySelectorAll('#rows tr')].find((e) => e.innerText.includes('half'))"
    page.run(ask % 60)
    assert "unsure" in page.run(f"{row}.innerText")


def test_a_row_opens_with_its_image_and_grad_cam_and_leads_back(page, photos):
    page.choose("#folder", photos)
    page.wait("document.querySelector('#stop').hidden && document.querySelectorAll('#rows tr')[3]")
    row = "[...document.querySelectorAll('#rows tr')].find((e) => e.innerText.includes('half'))"
    assert "unlike" not in page.run(f"{row}.innerText")
    page.run(f"{row}.click()")
    page.wait(f"{ANSWERED} && !document.querySelector('#heat').hidden")
    assert page.text("#name") == "half.png" and page.run("document.activeElement.id") == "back"
    assert page.run("document.querySelector('#input').getBoundingClientRect().bottom > 0")
    colours = page.run(
        "[...document.querySelector('#heat').getContext('2d').getImageData(0, 0, 4, 1).data]"
    )
    assert colours[:3] == pytest.approx(HEAT[0], abs=3) and colours[12:15] == pytest.approx(
        HEAT[-1], abs=3
    )
    assert colours[3] == pytest.approx(255 * HEAT_SHARE, abs=1)
    stops = page.run(
        "fetch('/web/shown_image.js').then((answer) => answer.text())"
        ".then((text) => text.match(/const HEAT = (.*);/)[1])"
    )
    assert [tuple(stop) for stop in json.loads(stops)] == list(HEAT), "the colours of the report"
    page.press("Enter")
    assert page.run("document.activeElement.ariaLabel").endswith("half.png")
    assert page.run("!document.querySelector('#back').hidden")
    page.press("Enter")
    page.wait(f"{ANSWERED} && document.activeElement.id == 'back'")


def test_an_example_is_classified_by_a_click(page):
    page.wait("document.querySelectorAll('.example').length == 2")
    page.wait("[...document.querySelectorAll('.example img')].every((one) => one.naturalWidth)")
    page.run("document.querySelector('.example').click()")
    page.wait(ANSWERED)
    assert page.text(".label") == HOSTILE and page.text("#name") == "Example 1"


def test_errors_are_shown_in_one_sentence(page, photos, tmp_path):
    shown = "!document.querySelector('#alert').hidden"
    page.choose("#file", photos / "broken.jpg")
    page.wait(shown)
    assert "The file is no image" in page.text("#alert") and "\n" not in page.text("#alert")
    assert "this browser cannot show it" in page.text("#name")
    choose(page, photos / "half.png")
    assert not page.run(shown)
    page.choose("#file", photos / "empty.jpg")
    page.wait(shown)
    assert page.text("#alert") == "empty.jpg is empty."
    (tmp_path / "large.tif").write_bytes(bytes(60_000_000))
    page.choose("#file", tmp_path / "large.tif")
    page.wait("document.querySelector('#alert').innerText.startsWith('large')")
    assert page.text("#alert") == (
        "large.tif has 60.0 MB, and this page takes images of up to 50.3 MB. Save it as JPEG, or "
        "smaller, and choose it again."
    )


def test_a_format_that_the_browser_decodes_and_the_model_does_not_is_converted(page, tmp_path):
    """AVIF stands for HEIC here, which only Safari decodes."""
    green = np.zeros((40, 60, 3), np.uint8)
    green[..., 1] = 255
    for name in ("one.avif", "other.avif"):
        (tmp_path / name).write_bytes(encoded(green, "AVIF"))
    choose(page, tmp_path / "one.avif")
    assert page.text(".label") == "green"
    page.choose("#file", tmp_path / "one.avif", tmp_path / "other.avif")
    page.wait("document.querySelector('#done').innerText == '2 of 2 images'")
    (tmp_path / "IMG_1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(90))
    page.choose("#file", tmp_path / "IMG_1.heic")
    page.wait("document.querySelector('#alert').innerText.startsWith('HEIC, a format')")
    assert "Most Compatible" in page.text("#alert")


def test_an_image_can_be_pasted_and_dropped(page, photos):
    made = """
      (async () => {
        const canvas = document.createElement('canvas');
        const blob = await new Promise((done) => canvas.toBlob(done));
        const data = new DataTransfer();
        data.items.add(new File([blob], 'some.png', {type: 'image/png'}));
        const event = EVENT;
        document.body.dispatchEvent(event);
        return event.defaultPrevented;
      })()"""
    page.run(
        made.replace("EVENT", "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})")
    )
    page.wait(ANSWERED)
    page.open(page.run("location.href"))
    page.wait(KNOWN)
    drop = "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})"
    assert page.run(made.replace("EVENT", drop)), "the browser does not leave the page"
    page.wait(ANSWERED)
    assert page.text("#name") == "some.png"


def test_a_folder_becomes_a_table_and_a_csv_file_without_formulas(page, photos, tmp_path):
    page.choose("#folder", photos)
    page.wait("document.querySelector('#stop').hidden && document.querySelectorAll('#rows tr')[3]")
    assert page.text("#done") == "4 of 4 images, 2 refused"
    page.run(
        "document.querySelector('#filter-name').value = 'BLUE';"
        "document.querySelector('#filter').dispatchEvent(new Event('input'))"
    )
    assert page.text("#shown") == "1 image: =1+1 1"
    (row,) = page.run("[...document.querySelectorAll('#rows tr')].map((row) => row.innerText)")
    assert "-<b>blue&.png" in row and "=1+1" in row
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.run("document.querySelector('#csv').click()")
    file = tmp_path / "labels.csv"
    for _ in range(100):
        if file.exists() and file.read_bytes().endswith(b"\r\n"):
            break
        page.run("new Promise((done) => setTimeout(done, 50))")
    head, found = csv.reader(io.StringIO(file.read_text("utf-8-sig"), newline=""))
    assert head == ["file", "label", "probability", "version", "note", "error"]
    assert found[1] == "'=1+1" and float(found[2]) > 0.9 and found[3] == "1"
    assert found[4] == "unlike all that the model has learned"
    names = ["=1", "+1", "-1", "@a", "\t=1", '"', "a,b", "\x1b]0;x\x07"]
    rows = json.dumps([{"path": name} for name in names])
    text = page.run(f"import('/web/folder.js').then((module) => module.csv({rows}))")
    written = [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:]
    assert written == ["'=1", "'+1", "'-1", "'@a", "\ufffd=1", '"', "a,b", "\ufffd]0;x\ufffd"]


def test_several_images_after_one_come_into_view_and_are_sorted(page, photos):
    choose(page, photos / "half.png")
    page.drop("#input", photos)
    page.wait("document.querySelector('#stop').hidden && document.querySelectorAll('#rows tr')[3]")
    assert page.run("document.querySelectorAll('#answers *').length") == 0, "the old answer is gone"
    assert page.run("document.querySelector('#image-frame').hidden")
    assert page.run("document.querySelector('#many').getBoundingClientRect().top < innerHeight / 2")
    assert page.text("#shown") == f"2 of 4 images: =1+1 1, {HOSTILE} 1"
    files = "[...document.querySelectorAll('#rows tr')].map((row) => row.cells[3].innerText)"
    half, blue = f"{photos.name}/half.png", f"{photos.name}/-<b>blue&.png"
    assert {half, blue} < set(page.run(files)), "files of a dropped folder have its name"
    page.run("document.querySelector('[data-sort=probability]').click()")
    assert page.run(files)[:2] == [half, blue], "the least certain is the first, refused are last"
    page.run("document.querySelector('[data-sort=probability]').click()")
    assert page.run(files)[:2] == [blue, half]
    sorted_columns = (
        "[...document.querySelectorAll('[aria-sort=descending]')].map((e) => e.innerText)"
    )
    assert page.run(sorted_columns) == ["Probability"]


def test_the_labels_follow_the_camera_until_a_picture_is_kept(page):
    page.run("document.querySelector('#start-camera').click()")
    page.wait("!document.querySelector('#live').hidden && document.querySelector('.classes li')")
    page.run("document.querySelector('.classes li').id = 'first'")
    page.wait("!document.querySelector('#first')")  # a later picture has replaced the answer
    page.run("document.querySelector('#keep-picture').click()")
    page.wait(ANSWERED)
    page.wait("document.querySelector('#name').innerText == 'camera.jpg'")
    assert page.run(
        "document.querySelector('#live').hidden && !document.querySelector('#live').srcObject"
    )
    assert page.run("document.querySelector('#image').naturalWidth") > 0
    page.run("document.querySelector('#start-camera').click()")
    page.wait("!document.querySelector('#live').hidden")
    page.run("document.querySelector('#stop-camera').click()")
    page.wait("document.querySelector('#live').hidden && !document.querySelector('.classes li')")


def test_the_page_can_be_used_with_the_keyboard(page, photos):
    """Tab reaches every control in the order of the page, and every control has a name."""
    choose(page, photos / "half.png")
    page.run("document.querySelector('details').open = true; document.activeElement.blur()")
    reached = []
    for _ in range(30):
        page.press("Tab")
        name = page.run("((e) => `${e.localName} ${e.id || e.name || ''}`)(document.activeElement)")
        if name in reached:
            break
        reached.append(name)
    wanted = ["button choose", "button choose-folder"]
    wanted += ["input heat-on", "summary ", "input left", "input top", "input width"]
    assert [name for name in reached if name in wanted] == wanted
    page.run("document.querySelector('[name=left]').focus(); document.activeElement.select()")
    page.call("Input.insertText", text="60")
    page.wait("document.querySelector('.label').innerText == 'green'")
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.run("document.querySelector('#choose').focus()")
    page.press("Enter")
    page.wait_for_event("Page.fileChooserOpened")
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "checkbox", "spinbutton", "searchbox", "image", "progressbar"}
    seen = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert len(seen) > 8
    assert [node for node in seen if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_without_horizontal_scrolling(page, photos, scheme):
    page.look(390, 844, scheme)
    choose(page, photos / "half.png")
    page.choose("#folder", photos)
    page.wait("document.querySelector('#stop').hidden && document.querySelectorAll('#rows tr')[3]")
    wide = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll')"
    wide += " && e.getBoundingClientRect().right > 390).map((e) => e.outerHTML)"
    assert (page.run(wide), page.run("document.documentElement.scrollWidth")) == ([], 390)
    assert page.run("getComputedStyle(document.querySelector('#photograph')).display") != "none"
    background = page.run("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    small = page.run(
        "[...document.querySelectorAll('button, select')].filter((e) => e.checkVisibility()"
        " && e.getBoundingClientRect().height < 40).length"
    )
    assert small == 0, "a finger can hit every control"


def test_on_a_phone_the_answer_stands_directly_under_its_image(page, photos):
    page.look(390, 844)
    choose(page, photos / "half.png")
    edges = page.run(
        "['#image', '.label', '.bar', '#choose'].map((each) => "
        "document.querySelector(each).getBoundingClientRect().top)"
    )
    assert edges == sorted(edges), "the buttons are below both"
    assert page.run("document.querySelector('.bar').getBoundingClientRect().bottom") <= 844


def test_a_model_that_loads_later_appears_without_a_reload(window, base, tmp_path, photos):
    with ModelServer("later", tmp_path / "later", quick(**PAGED)) as server:
        window.look()
        window.open(server.rest_target + "/")
        window.wait("!document.querySelector('#alert').hidden")
        assert window.text("#alert").startswith("No version of later is available.")
        window.choose("#file", photos / "half.png")
        window.wait("document.querySelector('#name').innerText == 'half.png'")
        shutil.copytree(base / "1", tmp_path / "staged")
        (tmp_path / "later").mkdir()
        (tmp_path / "staged").rename(tmp_path / "later" / "1")
        window.wait(KNOWN)
        window.wait(ANSWERED)  # for the image that was chosen before a version was available
        window.wait("document.querySelector('#alert').hidden")


def test_the_page_says_that_the_server_cannot_be_reached(window, base, photos):
    with running(base, "colours", **PAGED) as server:
        window.look()
        window.open(server.rest_target + "/")
        window.wait(KNOWN)
        choose(window, photos / "half.png")
    window.choose("#file", photos / "-<b>blue&.png")
    window.wait("!document.querySelector('#alert').hidden")
    assert window.text("#alert").startswith("The server cannot be reached.")
    assert window.run("document.querySelectorAll('.classes li').length") == 0


@axe.needed
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_there_is_no_barrier(page, photos, width, scheme):
    page.look(width, 900, scheme)
    assert axe.violations(page) == []
    choose(page, photos / "half.png")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert axe.violations(page) == []
    page.choose("#file", photos / "half.png", photos / "broken.jpg")
    page.wait("document.querySelectorAll('#rows tr').length == 2")
    assert axe.violations(page) == []
