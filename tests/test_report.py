"""The report and the README's table: what they say follows from the files, and what is committed is not stale."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_runs import write_run, write_sweep

from simam_repro.config import PROJECT_ROOT
from simam_repro.errors import UserError
from simam_repro.evaluation.comparison import compare
from simam_repro.evaluation.wording import rows_of
from simam_repro.reporting.first_screen import TEXTS, answer_lines
from simam_repro.reporting.forest import Row, forest_figure, forest_strip, limits_of
from simam_repro.reporting.gallery import IMAGES, MOST_DISPUTED, errors_first
from simam_repro.reporting.languages import LANGUAGES
from simam_repro.reporting.readme import (
    ANSWER,
    BEGIN,
    END,
    language_of,
    renewed,
    results_table,
    update_readme,
    with_block,
)
from simam_repro.reporting.report import recipe_rows, write_report
from simam_repro.reporting.report_figures import curves
from simam_repro.reporting.results import read_sweeps
from simam_repro.reporting.verdicts import LOOKS, NO_INTERVAL, NOT_SHOWN, SHOWN, judged
from simam_repro.runs import find_runs
from simam_repro.storage import write_json

READMES = sorted(PROJECT_ROOT.glob("README*.md"))
FACETS = ("set", "network", "module")
REAL = {"name": "caltech101_16", "stand_in": False}


def keep(folder: Path, **keys) -> list[tuple[dict, dict]]:
    """A sweep's folder of results; returns (comparison, arm) of each of its arms."""
    comparison = compare(write_sweep(folder, **keys))
    write_json(folder / "comparison.json", comparison)
    return rows_of(comparison["comparisons"])


class Page(HTMLParser):
    """Text, images, headings and what a page would load from elsewhere."""

    def __init__(self, path: Path):
        super().__init__()
        self.words, self.sources, self.links, self.open, self.labels, self.facets = [], [], [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [attributes["src"]] if "src" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        self.labels += [attributes["aria-label"]] if tag == "svg" else [attributes["alt"]] if tag == "img" else []
        if "data-module" in attributes:
            self.facets.append({facet: json.loads(attributes[f"data-{facet}"]) for facet in FACETS})

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    keep(results / "no_effect", seeds=5, data=REAL)
    keep(results / "one_pair", seeds=1, data=REAL)
    return results


def report(results: Path, folder: Path) -> dict[str, Page]:
    """{code of the language: page} of the report on `results`, without benchmarks."""
    pages = write_report(folder, results, folder)
    return dict(zip(LANGUAGES, map(Page, pages)))


@pytest.fixture(scope="module")
def pages(results, tmp_path_factory):
    return report(results, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(pages):
    return pages["en"]


def test_each_page_is_one_file_that_leads_to_the_other(pages):
    for code, page in pages.items():
        assert page.open == [] and all(source.startswith("data:image/") for source in page.sources)
        others = {language.page for language in LANGUAGES.values() if language.code != code}
        assert {link for link in page.links if not link.startswith("#")} == others
        ids = re.findall(r' id="([^"]+)"', page.source)
        assert len(ids) == len(set(ids)), "an id twice"
        assert {link[1:] for link in page.links if link.startswith("#")} <= set(ids)
        assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org)", page.source)


def test_both_languages_have_the_same_numbers(pages):
    def numbers(page):
        tables = re.findall(r"<table.*?</table>", page.source, re.DOTALL)
        return [re.findall(r"[-+]?\d+(?:[.,]\d+)*", re.sub(r"<[^>]*>", " ", table)) for table in tables]

    english, chinese = map(numbers, pages.values())
    assert len(english) > 3 and [sorted(table) for table in english] == [sorted(table) for table in chinese]
    assert not re.search(r"\b(baseline|interval|seeds?|accuracy|epochs)\b", pages["zh"].text)


def test_figures_are_told_to_those_who_do_not_see_them(pages):
    for page in pages.values():
        assert len(page.labels) == 6 and all(page.labels)
        assert any("SimAM -" in label or "SimAM +" in label for label in page.labels)
        assert "var(--fig-000000)" in page.source and "prefers-color-scheme: dark" in page.source


def test_every_comparison_folds_and_says_what_filters_choose_by(page):
    expected = {"set": ["Caltech101-16"], "network": ["TowerNet"], "module": ["SimAM"]}
    # Of each of two comparisons its figure, its heading and its row in a table, its fold.
    assert page.facets == [expected] * 8
    assert page.source.count("<details") == 6  # and classes of both, what has too few seeds, and the commands
    assert "<details open" not in page.source


def test_page_says_what_was_measured(page, results):
    (comparison,) = next(sweep for sweep in read_sweeps(results) if sweep.name == "no_effect").comparisons
    (arm,) = comparison["arms"]
    assert arm["final"]["sentence"] in page.text
    assert f"{100 * arm['final']['baseline']['mean']:.2f} %" in page.text
    for expected in (
        "Paddle 3.3.1",
        "A processor",
        "make sweep-no-effect",
        "make sweep-caltech-towernet",
        "+0.069",
        "MFLOPs",
    ):
        assert expected in page.text


def test_one_run_a_side_is_no_evidence(page):
    assert "1 more with fewer than 5 seeds: no interval, and no conclusion" in page.text
    assert "one run, or too few for an interval" in page.text


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({"seeds": 5}, NOT_SHOWN),
        ({"seeds": 6, "gain": 0.15, "spread": 0.001}, SHOWN),
        ({"seeds": 2, "gain": 0.15}, NO_INTERVAL),
    ],
)
def test_text_and_figure_follow_the_intervals(tmp_path, keys, expected):
    keep(tmp_path / "sweep", data=REAL, **keys)
    sweeps = read_sweeps(tmp_path)
    (row,) = judged(sweeps[0].comparisons)
    assert row[3] == expected
    said = answer_lines(sweeps, "en")[0]
    assert (TEXTS["en"]["nothing"] if expected == NO_INTERVAL else TEXTS["en"][expected]) in said
    assert LOOKS[expected][1][:20] in report(tmp_path, tmp_path)["en"].text


@pytest.mark.filterwarnings("ignore:Glyph")
def test_labels_of_a_forest_do_not_overlap_anything():
    difference = {"values": [0.01], "mean": 0.01, "t_interval": [0, 0.02], "images_and_seeds_interval": [-0.03, 0.04]}
    names = [
        "short",
        "a name that is long enough for two lines, as those with several keys are",
        "一个很长的中文名字" * 5,
    ]
    rows = [Row(name, difference, NOT_SHOWN) for name in names]
    for figure in (
        forest_figure(rows, 4.7),
        forest_strip(rows, 4.7, limits_of(rows)),
        forest_strip(rows[:1], 4.7, (-4, 5)),
    ):
        figure.draw_without_rendering()
        texts = [text.get_window_extent() for text in figure.axes[0].texts]
        bars = [line.get_window_extent() for line in figure.axes[0].get_lines()[1:]]
        assert len({round(box.x0) for box in texts}) == 1 and texts[0].x1 < figure.bbox.x1
        assert not any(a.overlaps(b) for i, a in enumerate(texts) for b in (*texts[:i], *bars))


def test_no_tick_is_there_twice():
    records = [{"epoch": epoch, "eval_acc": 0.7 + epoch / 1000, "train_acc": 0.7} for epoch in (1, 2, 3)]
    for figure in (curves({"none": [records], "SE": [records, records]}), curves({"none": [records[:1]]})):
        figure.draw_without_rendering()
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            assert len(labels) == len(set(labels)) > 0
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["none, one run"] and not figure.axes[0].collections


def test_of_many_arms_the_answer_is_one_line(tmp_path):
    for arm, attention in enumerate(("none", "simam", "se", "eca", "srm")):
        for seed in range(5):
            right = np.random.default_rng(100 * arm + seed).random(100) < 0.7
            write_run(tmp_path / "many" / attention / str(seed), attention, seed, right, right,
                      config={"name": attention}, data=REAL)  # fmt: skip
    write_json(tmp_path / "many" / "comparison.json", compare(find_runs(tmp_path / "many")))
    sweeps = read_sweeps(tmp_path)
    for language, words in (("en", "4 arms against none"), ("zh", "4 组与 none 对比")):
        said = answer_lines(sweeps, language)
        assert len(said) == 2 and words in said[0] and all(title in said[0] for title in ("SimAM", "SE", "ECA", "SRM"))
    page = report(tmp_path, tmp_path)["en"]
    assert "<option>ECA</option>" in page.source
    assert all(arm["final"]["sentence"] in page.text for arm in sweeps[0].comparisons[0]["arms"])


def test_stand_in_data_is_no_answer(tmp_path):
    keep(tmp_path / "results" / "demo", seeds=3)
    page = report(tmp_path / "results", tmp_path)["en"]
    assert "Nothing has been measured on real data" in page.text and "stand-in data" in page.text
    assert "stand-in data" in results_table(tmp_path / "results")


def test_report_of_nothing(tmp_path):
    assert "Nothing has been measured" in report(tmp_path, tmp_path)["en"].text


def test_recipes_are_compared_at_the_same_seed_and_scale(tmp_path):
    for name in "ab":
        write_json(tmp_path / name / "comparison.json", {"schema": 2, "comparisons": []})
    write_sweep(tmp_path / "a", seeds=2)
    for name, size in (("faithful_made", 128), ("faithful_made_simam", 64)):
        config = {"name": name, "data": {"dataset": "shapes16", "image_size": size}}
        (run, _) = write_sweep(tmp_path / "b", seeds=1, config=config)
        run.path.parent.rename(tmp_path / "b" / name)
        (tmp_path / "b" / "made_simam" / "seed0" / "result.json").unlink()
        (tmp_path / "b" / "made_simam").rename(tmp_path / "b" / f"unused_{name}")
    rows = recipe_rows(read_sweeps(tmp_path))
    assert [(row["name"], row["seed"]) for row in rows] == [("made", 0)]


def test_table_has_a_line_for_each_comparison(results):
    shown, notes, folded = re.split(r"\n\n(?=A processor|<details)", results_table(results))
    (head, _, row), (_, _, small) = shown.splitlines(), [line for line in folded.splitlines() if line.startswith("|")]
    assert head.startswith("| what |") and "| SimAM | 5 |" in row and " to " in row
    assert re.search(r"\| [01]\.\d{3} \|$", row)
    assert small.endswith("| none | none | none |") and "±" not in small and "no conclusion" in folded
    first, rule, holm = notes.splitlines()
    assert first.startswith("A processor, 1 thread(s) a run; Paddle 3.3.1") and "both intervals" in rule
    assert "adjusted for the table's 1 rows" in holm


def test_the_chinese_table_has_the_numbers_of_the_english_one(results):
    tables = [results_table(results, language) for language in ("en", "zh")]
    numbers = [re.findall(r"[-+]?\d+\.\d+", "".join(re.findall(r"^\|.*", table, re.MULTILINE))) for table in tables]
    assert numbers[0] == numbers[1] and "置信区间" in tables[1]


def test_readme_keeps_its_other_lines(tmp_path, results):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nmiddle\n{ANSWER[0]}\n{ANSWER[1]}\nafter\n")
    update_readme(readme, results)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| what |") and text.endswith(f"{ANSWER[1]}\nafter\n")
    assert "old" not in text and "\nmiddle\n" in text and "The answer so far" in text
    with pytest.raises(UserError, match="lost the lines"):
        with_block("no markers", "table", (BEGIN, END))


def test_of_predictions_errors_come_first():
    right = np.ones((2, 100), bool)
    right[0, :40] = right[1, 20:30] = False  # both wrong: 20 to 29
    chosen = errors_first(right)
    disputed, lost = chosen[:MOST_DISPUTED], chosen[MOST_DISPUTED:]
    assert len(set(chosen)) == IMAGES and all(20 <= i < 30 for i in lost)
    assert all(i < 40 and not 20 <= i < 30 for i in disputed) and min(disputed) < 5 and max(disputed) > 30
    assert len(errors_first(np.ones((2, 3), bool))) == 3


def test_names_of_any_letters_leave_the_table_whole(tmp_path):
    name = f"cats|dogs <b> [x] $1 {END}"
    keep(tmp_path / "results" / "my (odd) sweep", seeds=1, data={"name": name, "stand_in": False})
    table = results_table(tmp_path / "results")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and {row.count("|") for row in rows} == {rows[0].count("|")}
    assert (
        "cats&#124;dogs &lt;b&gt; &#91;x&#93; $1 &lt;!-- end" in rows[2]
        and "](results/my%20%28odd%29%20sweep)" in rows[2]
    )
    assert with_block(with_block(f"{BEGIN}\n{END}", table, (BEGIN, END)), "new", (BEGIN, END)) == f"{BEGIN}\nnew\n{END}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_what_the_readmes_say_is_not_stale(readme):
    text = readme.read_text(encoding="utf-8")
    assert renewed(text, PROJECT_ROOT / "results", language_of(readme)) == text, "run make report"


def test_the_committed_report_is_not_stale(tmp_path):
    """All but the figures, whose bytes depend on matplotlib and its fonts."""

    def without_figures(path):
        text = path.read_text(encoding="utf-8")
        return re.sub(r'src="data:image/[^"]*"|<svg .*?</svg>', "", text, flags=re.DOTALL)

    for page in write_report(tmp_path):
        committed = PROJECT_ROOT / "results" / page.name
        assert without_figures(committed) == without_figures(page), "run make report"


def paired(off: float, on: float) -> dict:
    statistic = {"values": [on - off], "mean": on - off, "sd": None, "t_interval": None,
                 "images_and_seeds_interval": None}  # fmt: skip
    return {"baseline": {"mean": off}, "arm": {"mean": on}, "difference": statistic}


FOG = {"fog": {"by_severity": {"baseline": [0.6, 0.4], "arm": [0.7, 0.5]}, "accuracy": paired(0.5, 0.6)}}
PGD = {"pgd": {"eps": [0.5 / 255], "baseline": [[0.3]], "arm": [[0.2]]}}
PGD["pgd"]["difference"] = [paired(0.3, 0.2)["difference"]]
PGD["pgd"]["mean"] = paired(0.3, 0.2)
NOT_DEFINED = {"mean": None, "t_interval": None}
PARTS = {
    "all": {"corruptions": FOG, "mean_corruption": paired(0.5, 0.6), "mce": NOT_DEFINED, "attacks": PGD},
    "attacks alone": {"attacks": PGD},
    "corruptions alone": {"corruptions": FOG, "mean_corruption": paired(0.5, 0.6), "mce": NOT_DEFINED, "attacks": {}},
}


@pytest.mark.parametrize("parts", PARTS)
def test_robustness_of_whatever_was_measured(tmp_path, parts):
    folder = tmp_path / "results" / "sweep"
    keep(folder, seeds=1, data=REAL)
    arms = {
        side: {"title": title, "name": name, "attention": {"name": title}}
        for side, title, name in (("baseline", "none", "a"), ("arm", "SE", "b"))
    }
    comparison = {**arms, "n": 1, "seeds": [0], "sentence": "Said.", "clean": paired(0.8, 0.9)}
    measured = {"images": 10, "checkpoint": "last", "levels": [1, 3], "comparisons": [comparison | PARTS[parts]]}
    measured["schema"] = 2
    write_json(folder / "robustness.json", measured)
    text = report(tmp_path / "results", tmp_path)["en"].text
    assert "clean images 80.0 % 90.0 % +10.0 none none" in text and "severities 1, 3" in text
    assert ("fog 50.0 % 60.0 %" in text and "not defined" in text) == ("corruptions" in PARTS[parts])
    assert ("PGD 0.5/255 30.0 % 20.0 % -10.0 none none" in text) == bool(PARTS[parts]["attacks"])


def test_command(tmp_path, results):
    readme = tmp_path / "README.md"
    readme.write_text("\n".join([BEGIN, END, *ANSWER]) + "\n")
    command = [sys.executable, PROJECT_ROOT / "scripts/report.py", "--readme", readme, "--output", tmp_path]
    done = subprocess.run([*command, "--results", results], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.zh-CN.html").stat().st_size > 50_000 and "| what |" in readme.read_text()
    refused = subprocess.run([*command, "--results", tmp_path / "nowhere"], capture_output=True, text=True)
    assert refused.returncode == 2 and "no folder of results" in refused.stderr
