"""The committed report as a browser lays it out, on a phone, a tablet and a desk, folded and open, and on paper."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest
from PIL import Image

from simam_repro.config import PROJECT_ROOT
from simam_repro.reporting.languages import LANGUAGES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 768, 1280)
STATES, HIGHEST = ("folded", "open"), 20_000  # pixels, folded, on a phone
MOST_PAGES = 12
# In the page: tells the one around it its size, and which texts of a figure lie on each other, are cut or too small.
MEASURE = """<script>addEventListener("load", () => {
  const troubles = [];
  for (const svg of document.querySelectorAll("svg")) {
    const whole = svg.getBoundingClientRect();
    if (!whole.width) continue;
    const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    for (const [i, [text, a]] of boxes.entries()) {
      if (a.left < whole.left - 1 || a.right > whole.right + 1) troubles.push(["cut", text]);
      if (a.height < 9) troubles.push(["tiny", text]);
      for (const [other, b] of boxes.slice(0, i))
        if (a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
          troubles.push(["overlap", text, other]);
    }
  }
  const root = document.documentElement;
  parent.postMessage([location.hash, innerWidth, root.scrollWidth, root.scrollHeight, troubles], "*");
})</script>"""
AROUND = """<!doctype html><meta charset="utf-8"><body><pre></pre>%s<script>
addEventListener("message", event => document.querySelector("pre").append(JSON.stringify(event.data) + "\\n"));
</script>"""

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]


def browse(folder, page, *options: str) -> str:
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000", *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_layout(language, tmp_path):
    source = (PROJECT_ROOT / "results" / language.page).read_text(encoding="utf-8") + MEASURE
    (tmp_path / "folded.html").write_text(source, encoding="utf-8")
    (tmp_path / "open.html").write_text(source.replace("<details", "<details open"), encoding="utf-8")
    frames = [(width, state) for state in STATES for width in WIDTHS]
    around = tmp_path / "around.html"
    html = "".join(f'<iframe src="{state}.html#{state}" width="{width}" height="800" style="border:0"></iframe>'
                   for width, state in frames)  # fmt: skip
    around.write_text(AROUND % html, encoding="utf-8")
    shot = tmp_path / "shot.png"
    shown = browse(tmp_path, around, "--window-size=2600,1900", f"--screenshot={shot}", "--dump-dom")
    lines = unescape(re.search("<pre>(.*?)</pre>", shown, re.DOTALL)[1]).splitlines()
    told = [json.loads(line) for line in lines]
    assert shot.stat().st_size > 100_000
    assert sorted((width, state[1:]) for state, width, *_ in told) == sorted(frames)
    for state, width, scroll_width, height, troubles in told:
        assert scroll_width <= width, f"{state} at {width}: {scroll_width} pixels wide"
        assert not troubles, f"{state} at {width}: {troubles[:5]}"
        assert state == "#open" or height < HIGHEST, f"{state} at {width}: {height} pixels high"


def test_dark_and_light_differ(tmp_path):
    page, corners = PROJECT_ROOT / "results" / "report.html", []
    for scheme in (1, 0):
        shot = tmp_path / f"{scheme}.png"
        browse(tmp_path, page, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
        corners.append(Image.open(shot).convert("L").getpixel((3, 3)))
    assert corners[0] > 240 and corners[1] < 40


def test_filters_choose(tmp_path):
    choose = """<script>
    const select = document.querySelector("select[name=network]"); select.value = "AlexNet";
    select.dispatchEvent(new Event("change", {bubbles: true}));
    const every = [...document.querySelectorAll("[data-network]")];
    document.title = JSON.stringify(every.map(one => [JSON.parse(one.dataset.network)[0], one.hidden]));
    </script>"""
    page = tmp_path / "page.html"
    page.write_text((PROJECT_ROOT / "results" / "report.html").read_text(encoding="utf-8") + choose, encoding="utf-8")
    title = re.search("<title>(.*?)</title>", browse(tmp_path, page, "--dump-dom"))[1]
    every = json.loads(unescape(title))
    assert {hidden for _, hidden in every} == {True, False}
    assert all(hidden == (network != "AlexNet") for network, hidden in every)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_paper(language, tmp_path):
    pdf = tmp_path / "report.pdf"
    browse(tmp_path, PROJECT_ROOT / "results" / language.page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    pages = re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())
    assert 2 <= len(pages) <= MOST_PAGES
