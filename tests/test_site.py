"""The site of executed notebooks: every page and figure is there, described, and can be clicked
through in a browser."""

import contextlib
import json
import re
import shutil

import nbformat
import pytest
import website
from test_show import record, voted_step

from agentlib import config
from agentlib.figures import style
from agentlib.pages import show
from agentlib.runner import notebooks

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def notebook(title, *outputs):
    cells = [
        nbformat.v4.new_markdown_cell(
            f"# {title}\n\n**By the end you will have shown that** *two* things\nhold.\n\nMore."
        ),
        nbformat.v4.new_code_cell("1", outputs=list(outputs), execution_count=1),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def written(folder, name, *outputs):
    nbformat.write(notebook(name.replace("_", " "), *outputs), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def output(metadata=None, **data):
    return nbformat.v4.new_output(
        "display_data", {k.replace("__", "/"): v for k, v in data.items()}, metadata=metadata or {}
    )


def test_an_index_with_figures_and_a_page_a_notebook(tmp_path):
    bars = nbformat.v4.new_output("stream", name="stderr", text="train: 40%")
    picture = output({"image/png": {"alt": "Bars of <things>"}}, image__png=PICTURE)
    pages = [
        written(tmp_path, "00_first_steps", bars, picture),
        written(tmp_path, "01_second", output(image__png=PICTURE)),
    ]
    noted = json.loads(pages[0].read_text())
    noted["metadata"]["papermill"] = {"duration": 74.0}
    pages[0].write_text(json.dumps(noted))
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "fig6_tokens.svg").write_text("<svg/>")
    (tmp_path / "drawn" / "data_efficiency.svg").write_text("<svg/>")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "77_gone.html").write_text("old")
    index = website.build(pages, tmp_path / "drawn", tmp_path / "out", "Preset smoke.")
    text = index.read_text()
    assert text.index("figures/fig6_tokens.svg") < text.index("figures/data_efficiency.svg")
    assert (
        '<a href="00_first_steps.html">00 first steps</a>' in text
        and ">two things hold<" in text
        and ">1.2<" in text
    )
    assert (
        style.ALT_TEXT["fig6_tokens"] in text.replace("&#x27;", "'")
        and (tmp_path / "out/figures/fig6_tokens.svg").exists()
    )
    first, second = ((tmp_path / "out" / f"{p.stem}.html").read_text() for p in pages)
    assert (
        'alt="Bars of &lt;things&gt;"' in first
        and "train: 40%" not in first
        and 'href="01_second.html" rel="next"' in first
    )
    assert not re.findall(r"<script src=", first), "a script that is fetched before the page opens"
    assert 'alt="picture: 01 second"' in second and not (tmp_path / "out" / "77_gone.html").exists()
    with pytest.raises(ValueError, match="no notebooks"):
        website.build([], tmp_path, tmp_path / "out")


def test_a_picture_of_a_notebook_is_within_its_page(tmp_path):
    page = notebooks.NOTEBOOKS / "00_meet_the_agent.ipynb"
    website.build([page], tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "00_meet_the_agent.html").read_text(encoding="utf-8")
    assert "pictures/agent_loop.svg" not in text
    assert re.search(r'<img alt="The model writes code[^>]*src="data:image/svg\+xml;base64,', text)


def test_half_a_surrogate_pair_stops_no_page(tmp_path):
    (tmp_path / "00_x.ipynb").write_text(
        json.dumps(notebook("half \ud83d", output(text__html="<b>a\ud83db</b>")))
    )
    index = website.build([tmp_path / "00_x.ipynb"], tmp_path, tmp_path / "out", "\ude00")
    assert (
        ">half ?<" in index.read_text()
        and "<b>a?b</b>" in (tmp_path / "out" / "00_x.html").read_text()
    )


def test_notebooks_of_the_last_run_go_before_committed_ones(project):
    cfg = config.load("smoke")
    (project / "notebooks").mkdir()
    ran = cfg.runs / "notebooks"
    ran.mkdir(parents=True)
    for folder, name in (
        (project / "notebooks", "00_a"),
        (project / "notebooks", "01_b"),
        (ran, "01_b"),
    ):
        written(folder, name)
    assert website.executed(cfg, project / "notebooks") == [
        project / "notebooks" / "00_a.ipynb",
        ran / "01_b.ipynb",
    ]


def test_every_committed_notebook_says_what_it_shows():
    for path in notebooks.numbered():
        title, claim = website.opening(nbformat.read(path, 4))
        assert title.startswith(path.stem[:2]) and len(claim.split()) > 8, path


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium of this machine (`.ci/run` installs one)."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found:
        pytest.skip("no Chromium on this machine; install one to test the site in a browser")
    from playwright.sync_api import sync_playwright

    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    with (
        sync_playwright() as play,
        contextlib.closing(play.chromium.launch(executable_path=found, args=quiet)) as opened,
    ):
        yield opened


def seen(page, what: str) -> int:
    return page.locator(what).filter(visible=True).count()


WINDOWS = {"wide": {"width": 1280, "height": 720}, "narrow": {"width": 390, "height": 844}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_trajectory_is_clicked_through_in_a_browser(browser, tmp_path, window, scheme):
    voted = record(method="agent_distill_ftp", n=8)
    voted["trace"][1] |= voted_step(0, 0, None, chosen=1)
    page = browser.new_page(color_scheme=scheme, viewport=WINDOWS[window])
    words = record(method="cot", text="Quito.")
    del words["trace"]
    pages = [written(tmp_path, "00_cases", output(text__html=show.show_cases([words, voted]).data))]
    page.goto(website.build(pages, tmp_path, tmp_path / "out").as_uri())
    page.click("text=00 cases")
    light = "true" if scheme == "light" else "false"
    page.wait_for_function(f"document.body?.dataset.jpThemeLight === '{light}'")
    assert seen(page, "text=Quito.") and not seen(page, "text=So it is Lima.")
    page.click("label:has-text('Agent distillation + FTP + SAG (n=8)')")
    assert (
        seen(page, "text=So it is Lima.")
        and seen(page, "text=I look it up.")
        and not seen(page, "text=Quito.")
    )
    page.click("label:has-text('step 2')")
    assert seen(page, ".card.kept") and not seen(page, "text=I look it up.")
    cards = page.locator(".card").filter(visible=True)
    assert cards.count() == 3 and all(is_legible(card) for card in cards.all())
    page.keyboard.press("ArrowLeft")  # the radio buttons of a step are reached by the keyboard, too
    assert seen(page, "text=I look it up.") and not seen(page, ".card.kept")


# of a card's words and of what is behind them: its own tint over those of all that it lies in
BRIGHTNESS = r"""card => {
  const parts = c => c.match(/[\d.]+/g).map(Number), lies = [];
  for (let e = card; e; e = e.parentElement) lies.unshift(getComputedStyle(e).backgroundColor);
  const over = (below, c) => { const [r, g, b, a = 1] = parts(c);
    return [r, g, b].map((v, k) => a * v + (1 - a) * below[k]); };
  const linear = v => v <= 10 ? v / 3294 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const sum = c => c.reduce((a, v, k) => a + linear(v) * [0.2126, 0.7152, 0.0722][k], 0);
  return [parts(getComputedStyle(card).color).slice(0, 3), lies.reduce(over, [255, 255, 255])]
    .map(sum); }"""


def is_legible(card) -> bool:
    """Whether a card lies within the window, with words that stand out (WCAG AA: 4.5 to 1)."""
    low, high = sorted(card.evaluate(BRIGHTNESS))
    box, window = card.bounding_box(), card.page.viewport_size
    fits = box["x"] >= 0 and box["x"] + box["width"] <= window["width"]
    return fits and (high + 0.05) / (low + 0.05) >= 4.5


def test_the_site_of_the_committed_notebooks_has_every_figure_and_no_error(browser, tmp_path):
    committed = notebooks.numbered()
    index = website.build(committed, config.ROOT / "figures" / "laptop", tmp_path)
    page = browser.new_page()
    page.goto(index.as_uri())
    assert page.locator(".figures img").count() >= len(notebooks.FIGURES)
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 20)")
    for notebook in committed:
        page.goto((tmp_path / f"{notebook.stem}.html").as_uri(), wait_until="domcontentloaded")
        assert not page.locator(
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']"
        ).count(), notebook.stem
        assert page.evaluate(
            "[...document.images].every(i => i.alt && i.alt !== 'No description has been provided"
            " for this image')"
        )
        for name, window in WINDOWS.items():
            page.set_viewport_size(window)
            beyond = page.evaluate("""() => document.documentElement.scrollWidth
                - document.documentElement.clientWidth""")
            assert beyond <= 2, f"{notebook.stem} is {beyond} pixels too wide for a {name} window"
    assert re.search(r"next: ", page.content()) is None  # the last page leads nowhere
