"""The page in a real Chromium, at the width of a desktop and of a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
OPTIONS = [
    "--no-sandbox",  # tests may run as root
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const texts = [...document.querySelectorAll(".mtmsa :is(h1, h3, p, strong, th, td, li, label, dd)")];
  return texts.filter(node => node.offsetParent && node.innerText.trim()).map(node => {
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.innerText];
  }).sort((x, y) => x[0] - y[0])[0];
}"""
"""The least contrast of a text with what is behind it (WCAG 2.2, 1.4.3), and the text."""


def left(folder: Path) -> list[Path]:
    """Return what is in the folder of uploads, but for a file that Gradio starts with."""
    return [path for path in folder.rglob("*") if path.name != "vibe_edit_history"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> str:
    return request.param


class Visit:
    """A page in the browser, and everything that it asked for or complained about."""

    def __init__(self, chromium: Any, address: str, width: str, colours: str = "light") -> None:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = chromium.new_context(viewport=size, color_scheme=colours)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type == "error" else None,
        )
        self.page.goto(address)

    def upload(self, file: Path, expect: str) -> None:
        """Choose a file, and wait until the page says a text."""
        self.page.locator("#photo input[type=file]").set_input_files(str(file))
        self.page.get_by_text(expect).first.wait_for()

    def hosts(self) -> set[str | None]:
        return {urlsplit(url).hostname for url in self.asked if url.startswith(("http", "ws"))}

    def overflows(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.fixture
def visit(chromium: Any, served: Any) -> Iterator[Any]:
    visits: list[Visit] = []

    def start(width: str, colours: str = "light") -> Visit:
        visits.append(Visit(chromium, served.address, width, colours))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_visit(visit: Any, width: str, photos: Path, served: Any) -> None:
    here = visit(width)
    page = here.page
    page.wait_for_function("document.title === 'Apparent age, with its uncertainty'")
    page.get_by_text("Photos are not stored.").wait_for()
    page.get_by_text("No decision about a person may rest on this").wait_for()

    here.upload(photos / "one.jpg", "1 face was found.")
    box = page.locator(".photo .bright").bounding_box()
    photo = page.locator(".photo image").bounding_box()
    assert 0 < box["width"] < photo["width"] / 3  # the astronaut's face, in the upper middle
    assert photo["x"] < box["x"]
    assert box["y"] + box["height"] < photo["y"] + photo["height"] / 2
    for drawn in (".curve .line", ".curve .band", ".bars >> nth=0", ".seen"):
        page.locator(drawn).wait_for()
    page.get_by_text("Unsure:", exact=True).wait_for()
    assert not here.overflows()

    # the switches, by keyboard
    assert not page.locator(".attention").is_visible()
    for name, shown in (("Attention overlay", ".attention"), ("Dilation rates", ".rates")):
        page.get_by_label(name).focus()
        page.keyboard.press("Space")
        page.locator(shown).wait_for()
    assert page.locator(".stack img").first.evaluate("image => image.naturalWidth") == 64
    page.locator(".photo a").focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#face-1")

    here.upload(photos / "twenty.png", "20 faces were found")
    assert page.locator(".face").count() == 20
    assert page.locator(".attention").last.is_visible()  # the switches stay as they are
    assert page.evaluate(
        "[...document.querySelectorAll('.mtmsa img')].every(image => image.hasAttribute('alt'))"
    )
    assert not here.overflows()

    here.upload(photos / "none.png", "No face was found in this photo.")
    here.upload(photos / "text.jpg", "text.jpg: not an image that can be decoded")
    here.upload(photos / "large.jpg", "maximum allowed size")
    assert here.hosts() == {"127.0.0.1"}
    assert left(served.folder) == []


def test_the_camera(visit: Any, served: Any) -> None:
    here = visit("phone")
    page = here.page
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.get_by_label("capture photo").click()
    page.get_by_text("No face was found in this photo.").wait_for()  # a test picture
    assert here.complaints == []
    assert left(served.folder) == []


def test_texts_stand_out_from_what_is_behind_them(visit: Any, colours: str, photos: Path) -> None:
    here = visit("desktop", colours)
    here.upload(photos / "one.jpg", "1 face was found.")
    here.page.get_by_label("Attention overlay").check()
    here.page.get_by_label("Dilation rates").check()
    here.page.get_by_text("About the model").click()
    least, text = here.page.evaluate(CONTRAST)
    assert least >= 4.5, text
    number = here.page.locator(".photo text")
    assert number.evaluate("text => getComputedStyle(text).stroke") == "none", "a stroke hides the number"
    assert here.complaints == []


def test_what_the_browser_would_load_from_elsewhere_is_refused(visit: Any) -> None:
    here = visit("desktop")
    loaded = here.page.evaluate(
        "new Promise(done => { const image = new Image(); image.onload = () => done(true);"
        " image.onerror = () => done(false); image.src = 'http://192.0.2.1/pixel.png'; })"
    )
    assert not loaded
    assert any("Content Security Policy" in said for said in here.complaints)
