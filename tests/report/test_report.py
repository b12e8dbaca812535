"""`report.html`, `muhdi report` and `muhdi compare`.

What the pages hold, and that they work in a real browser.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from muhdi.report.charts import Chart, Line, nice_ticks, thinned
from muhdi.report.page import percent_cell
from muhdi.report.significance import Difference
from tests.testers import forget

Muhdi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, which may be changed."""
    copied = Path(shutil.copytree(trained, tmp_path / "runs" / "trained"))
    # As if it had ended without them.
    for name in ("report.html", "environment.json"):
        (copied / name).unlink()
    return copied


def change(run: Path, name: str, edit: Callable[[Any], None]) -> None:
    path = run / name
    data = (
        json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    )
    edit(data)
    path.write_text(
        json.dumps(data) if path.suffix == ".json" else yaml.safe_dump(data, sort_keys=False)
    )


def arm(trained: Path, folder: Path, name: str, seed: int, points: dict[str, float]) -> Path:
    """A run whose final scores, with every choice of statistics, are these."""
    made = shutil.copytree(trained, folder / f"{name}_seed{seed}")

    def rename(recipe: dict[str, Any]) -> None:
        recipe.update(name=f"{name}_seed{seed}", seed=seed)

    def score(results: dict[str, Any]) -> None:
        results.update(name=f"{name}_seed{seed}", seed=seed)
        for row in results["steps"][-1]["scores"].values():
            for domain, value in points.items():
                row[domain]["miou"] = value

    change(made, "recipe.yml", rename)
    change(made, "results.json", score)
    return made


# --- what is written ------------------------------------------------------------------------------


def test_a_training_ends_with_a_report_and_a_record(
    muhdi: Muhdi, tiny: Callable[..., Path], tmp_path: Path
) -> None:
    status, output, errors = muhdi("train", tiny())
    assert status == 0, errors
    assert "Report, to open in a browser: experiments/snapshots/tiny/report.html" in output
    run = tmp_path / "experiments/snapshots/tiny"
    page = (run / "report.html").read_text()
    for words in (
        "average target mIoU",
        "What was forgotten",
        "seg_main",
        "Confusion",
        "torch 2.",
        "3 of 3",
    ):
        assert words in page
    (session,) = json.loads((run / "environment.json").read_text())
    assert session["seconds"] > 0
    assert session["memory_mb"] > 50
    assert set(session["versions"]) >= {"muhdi", "torch"}
    assert (run / "samples" / "city_0_predicted_running_after0.png").is_file()
    assert muhdi("train", tiny())[0] == 2
    assert len(json.loads((run / "environment.json").read_text())) == 1, (
        "a command that is refused is not part of the run"
    )
    assert muhdi("train", tiny(), "--resume")[0] == 0
    assert len(json.loads((run / "environment.json").read_text())) == 2


def test_a_report_holds_the_numbers_and_needs_nothing_else(muhdi: Muhdi, run: Path) -> None:
    status, output, errors = muhdi("report", run)
    assert status == 0, errors
    assert f"Report, to open in a browser: {run}/report.html" in output
    page = (run / "report.html").read_text()
    results = json.loads((run / "results.json").read_text())
    for kind in ("running", "domain", "image"):
        for step in results["steps"]:
            for entry in step["scores"][kind].values():
                if entry["miou"] is not None:
                    assert f">{entry['miou']:.1f}<" in page
    assert yaml.safe_dump({"name": "trained"}).strip() in page
    outside = [
        a
        for a in re.findall(r"""(?:src|href)=["']?([^"'\s>]+)|url\(([^)]+)\)|@import""", page)
        if any(a)
    ]
    assert all(
        address.startswith(("data:", "#")) for pair in outside for address in pair if address
    )
    assert "http" not in page.replace("https://www.w3.org", "")


def test_the_confusion_matrix_is_kept_of_the_last_step(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    entry, counts = (
        results["steps"][-1]["scores"]["running"]["night"],
        results["confusion"]["running"]["night"],
    )
    hits = [row[place] for place, row in enumerate(counts)]
    union = [sum(row) + sum(line[p] for line in counts) - hits[p] for p, row in enumerate(counts)]
    for place, value in enumerate(entry["iou"].values()):
        assert (value or 0) == pytest.approx(
            100 * hits[place] / union[place] if union[place] else 0, abs=1e-3
        )
    assert "confusion" not in json.dumps(results["steps"])


def test_whatever_a_run_is_called_it_is_text(muhdi: Muhdi, run: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    change(run, "recipe.yml", lambda recipe: recipe.update(description=evil))

    def rename(results: dict[str, Any]) -> None:
        results["steps"][0]["name"] = evil
        results["domains"][0] = evil
        for step in results["steps"]:
            for row in step["scores"].values():
                row[evil] = row.pop("sim")
        results["confusion"] = {}

    change(run, "results.json", rename)
    assert muhdi("report", run)[0] == 0
    page = (run / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_run_that_is_not_finished_or_lacks_files_has_a_report(muhdi: Muhdi, run: Path) -> None:
    shutil.rmtree(run / "samples")
    (run / "metrics.jsonl").write_text(
        '{"stage": "source", "iteration": 1, "seg_main": 1.5}\n{"stage": "sou'
    )
    change(run, "results.json", lambda results: results.update(steps=results["steps"][:2]))
    status, _, errors = muhdi("report", run)
    assert status == 0, errors
    page = (run / "report.html").read_text()
    for words in (
        "2 of 4 evaluated",
        "No sample images were kept",
        "this run did not record them",
        "seg_main",
    ):
        assert words in page


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "recipe.yml").unlink(), "is not a run directory"),
        (lambda run: (run / "results.json").unlink(), "nothing was evaluated yet"),
        (
            lambda run: (run / "results.json").write_text("{"),
            "results.json: cannot be read as JSON",
        ),
    ],
)
def test_what_is_no_run_is_one_line(
    muhdi: Muhdi, run: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(run)
    status, _, errors = muhdi("report", run)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (run / "report.html").exists()


# --- comparing ------------------------------------------------------------------------------------


@pytest.fixture
def arms(trained: Path, tmp_path: Path) -> list[Path]:
    """``plain`` and ``better``, clearly higher on three seeds, and ``lucky``, higher on average
    alone.
    """
    scores = {
        "plain": (20.0, 22.0, 24.0),
        "better": (30.0, 32.5, 33.8),
        "lucky": (19.0, 21.0, 41.0),
    }
    return [
        arm(trained, tmp_path, name, seed, dict.fromkeys(("city", "dust", "night"), value))
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_compare_gives_mean_spread_and_what_is_noise(
    muhdi: Muhdi, arms: list[Path], tmp_path: Path
) -> None:
    status, output, errors = muhdi(
        "compare", *reversed(arms), "--against", "plain", "--format", "json"
    )
    assert status == 0, errors
    assert "Report, to open in a browser: comparison.html" in errors
    tables = {table["title"]: table["rows"] for table in json.loads(output)}
    mean = {
        row["arm"]: row["target average"]
        for row in tables["After the last step, running statistics (mIoU in percent)"]
    }
    assert mean["plain"] == {"mean": 22.0, "deviation": 2.0, "count": 3}
    title = "Differences from plain in points of mIoU with their 95 % interval, running statistics"
    readings = {
        row["arm"]: (row["seeds"], row["target average"], row["reading"]) for row in tables[title]
    }
    # Differences 10, 10.5, 9.8 and -1, -1, 17; 4.30 is the t quantile of two degrees of freedom.
    assert readings["better"] == ("3", "+10.1 ± 0.9", "higher")
    assert readings["lucky"] == ("3", "+5.0 ± 25.8", "within the noise")
    page = (tmp_path / "comparison.html").read_text()
    said = (
        "With running statistics (3 seeds), better averages 10.1 more than plain on the targets,"
        " and forgets "
    )
    for words in ("+10.1 ± 0.9", "within the noise", "22.0 ± 2.0", "seeds 0, 1, 2", said):
        assert words in page
    status, output, _ = muhdi("compare", *reversed(arms), "--against", "plain")
    assert said in output


def test_compare_refuses_what_cannot_be_compared(
    muhdi: Muhdi, arms: list[Path], run: Path, tmp_path: Path
) -> None:
    twin = shutil.copytree(arms[0], tmp_path / "twin")
    half = shutil.copytree(arms[0], tmp_path / "half")
    change(half, "results.json", lambda results: results.update(steps=results["steps"][:1]))
    change(run, "results.json", lambda results: results.update(domains=["a", "b"]))
    for words, message in (
        ([arms[0], twin], "there are two runs of 'plain' with seed 0"),
        ([arms[0], half], "only 1 of 4 stages are evaluated"),
        ([arms[0], run], "compare runs of one benchmark"),
        ([arms[0], "--against", "plane"], "--against plane: no such arm; did you mean 'plain'?"),
        ([arms[0], "--group-by", "colour"], "--group-by colour: must be one of arm, run"),
        ([arms[0], "--format", "pdf"], "--format pdf: must be one of markdown, latex, csv, json"),
        ([tmp_path], "is not a run directory"),
    ):
        status, _, errors = muhdi("compare", *words)
        assert status == 2
        assert message in errors
        assert errors.count("\n") == 1
    assert not (tmp_path / "comparison.html").exists()


def test_each_run_may_stand_for_itself(muhdi: Muhdi, arms: list[Path]) -> None:
    status, output, _ = muhdi("compare", *arms[:2], "--group-by", "run", "--format", "csv")
    assert status == 0
    block = output.split("# ")[1].splitlines()[1:]
    rows = list(csv.DictReader(io.StringIO("\n".join(block))))
    assert [(row["arm"], float(row["target average"])) for row in rows] == [
        ("plain_seed0", 20.0),
        ("plain_seed1", 22.0),
    ]


def test_a_difference_of_one_seed_has_no_error_bar() -> None:
    assert Difference((3.0,)).error is None
    assert Difference((3.0,)).counts
    assert not Difference((1.4,)).counts
    assert not Difference((-1.0, 5.0)).counts


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_tables_can_be_pasted(muhdi: Muhdi, run: Path, form: str) -> None:
    status, output, errors = muhdi("report", run, "--format", form)
    assert status == 0, errors
    value = json.loads((run / "results.json").read_text())["steps"][3]["scores"]["image"]["dust"][
        "miou"
    ]
    if form == "json":
        (table,) = (t for t in json.loads(output) if "image" in t["title"])
        assert table["rows"][3] == {"after": "night"} | {
            k: table["rows"][3][k] for k in ("sim", "city", "dust", "night")
        }
        assert table["rows"][3]["dust"] == value
    elif form == "csv":
        (block,) = (part for part in output.split("# ") if "image statistics" in part)
        rows = list(csv.DictReader(io.StringIO(block.split("\n", 1)[1])))
        assert float(rows[3]["dust"]) == value
    elif form == "markdown":
        assert (
            "| after | sim | city | dust | night |\n| --- | ---: | ---: | ---: | ---: |\n| source |"
            in output
        )
        assert f" {value:.1f} " in output
    else:
        assert output.count(r"\begin{tabular}{lrrrr}") == output.count(r"\bottomrule") == 3
        assert f" {value:.1f} " in output
        assert "&" in output
        assert not re.search(r"(?<!\\)[%#_]", output)


def test_ticks_are_round_and_cover() -> None:
    for low, high in (
        (0, 1),
        (11.2, 68.6),
        (0.0003, 0.0071),
        (5, 5),
        (-3, 12),
        (0, 0),
        (0, 1e-15),
        (1e9, 1e9),
    ):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 2 <= len(ticks) <= 7
        assert ticks[0] < ticks[-1]
        assert "nan" not in Chart("c", [Line("a", [(1e6, low), (1e6, high)])], []).svg()
    points = [(float(i), float(i % 2)) for i in range(1000)]
    assert len(thinned(points)) <= 400
    assert thinned(points[:5]) == points[:5]


# --- other people's classes, and a network without batch norm -------------------------------------


@pytest.fixture
def foreign_run(muhdi: Muhdi, lanterns: Path, foreign: Callable[..., Path], tmp_path: Path) -> Path:
    """A finished run whose one column is ``none``; the package is no longer installed."""
    status, output, errors = muhdi("train", foreign())
    assert status == 0, errors
    assert "without normalisation statistics; one seed." in output
    shutil.rmtree(lanterns)
    forget("lanterns")
    return tmp_path / "experiments/snapshots/foreign"


def stage_rows(page: str) -> list[tuple[str, str]]:
    """Domains of the stage table, and what is below each."""
    (table,) = re.findall(r'<ol class="steps">(.*?)</ol>', page, re.DOTALL)
    return re.findall(r"<li>(.*?)<small>(.*?)</small></li>", table)


def test_the_stage_table_names_methods(muhdi: Muhdi, run: Path, foreign_run: Path) -> None:
    assert muhdi("report", run)[0] == 0
    assert stage_rows((run / "report.html").read_text()) == [
        ("sim", "labelled source"),
        ("city", "selftrain / muhdi"),
        ("dust", "selftrain / muhdi"),
        ("night", "selftrain / muhdi"),
    ]
    status, _, errors = muhdi("report", foreign_run)
    assert status == 0, errors
    page = (foreign_run / "report.html").read_text()
    assert stage_rows(page) == [
        ("lit", "labelled source"),
        ("dim", "lanterns:MaskedTeacher / lanterns:Anchors"),
        ("dark", "lanterns:MaskedTeacher / lanterns:Anchors"),
    ]
    assert "<dt>network</dt><dd>lanterns:PlainNet, 48x32</dd>" in page


def test_without_batch_norm_there_is_nothing_to_choose(
    muhdi: Muhdi, foreign_run: Path, browser: Any
) -> None:
    assert muhdi("report", foreign_run)[0] == 0
    page = opened(browser, foreign_run / "report.html")
    assert page.get_log("browser") == []
    assert shown(page, "nav") == []
    for section in ("#summary dl", "#matrix table", "#matrix svg", "#forgetting table"):
        assert len(shown(page, section)) == 1, section
    assert one(page, "#matrix figcaption").text == (
        "foreign: mIoU in percent after each stage, no normalisation statistics"
    )
    choose(page, "#classes select", "dark")
    assert shown(page, "#classes figcaption")[0].text.startswith("dark: IoU")
    choose(page, "#confusion select", "dark")
    assert len(shown(page, "#confusion tbody tr")) == 2
    choose(page, "#view-left", "after dark")
    assert one(page, "#image-left").get_attribute("src").startswith("data:image/png")
    choose(page, "#view-right", "after dim")
    assert one(page, "#image-right").get_attribute("src").startswith("data:image/png")
    assert one(page, "#view-status").text == ""
    # The training wrote those of earlier stages; now their networks' class is not there.
    for file in (foreign_run / "samples").glob("*_after*.png"):
        file.unlink()
    assert muhdi("report", foreign_run)[0] == 0
    page = opened(browser, foreign_run / "report.html")
    assert one(page, "#view-left").text.split() == ["image", "label", "after", "dark"]


def test_runs_without_batch_norm_are_compared(
    muhdi: Muhdi, foreign_run: Path, tmp_path: Path, browser: Any
) -> None:
    points = {"plain": (40.0, 42.0), "better": (50.0, 53.0)}
    runs = []
    for name, values in points.items():
        for seed, value in enumerate(values):
            scores = dict.fromkeys(("dim", "dark"), value)
            runs.append(arm(foreign_run, tmp_path, name, seed, scores))
    status, output, errors = muhdi("compare", *runs, "--format", "json")
    assert status == 0, errors
    titles = [table["title"] for table in json.loads(output)]
    assert titles == [
        "After the last step, no normalisation statistics (mIoU in percent)",
        "Differences from plain in points of mIoU with their 95 % interval,"
        " no normalisation statistics",
        "Every run, no normalisation statistics (points of mIoU)",
    ]
    page = opened(browser, tmp_path / "comparison.html")
    assert page.get_log("browser") == []
    assert shown(page, "nav") == []
    assert len(shown(page, "#arms tbody tr")) == 2
    assert len(shown(page, "#domains svg")) == 3


# --- in a browser ---------------------------------------------------------------------------------


def opened(browser: Any, page: Path, *, width: int = 1000, dark: bool = False) -> Any:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")  # of the page before
    browser.get(page.resolve().as_uri())
    return browser


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def shown(browser: Any, selector: str) -> list[Any]:
    return [
        element
        for element in browser.find_elements("css selector", selector)
        if element.is_displayed()
    ]


def choose(browser: Any, selector: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(one(browser, selector)).select_by_visible_text(text)


def left_edge(browser: Any) -> float:
    return one(browser, ".handle").rect["x"] - one(browser, "#slider").rect["x"]


def test_the_report_works_in_a_browser(muhdi: Muhdi, run: Path, browser: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    assert muhdi("report", run)[0] == 0
    page = opened(browser, run / "report.html")
    assert page.get_log("browser") == []
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(e =>"
            " !e.name.startsWith('data:')).length"
        )
        == 0
    )
    assert len(shown(page, "#matrix table")) == 1
    assert "running statistics" in one(page, "#matrix figcaption").text
    assert len(shown(page, "#matrix tbody tr")) == 4
    one(page, "input[value=image]").click()
    assert shown(page, "#matrix figcaption")[0].text.endswith("image statistics")
    choose(page, "#classes select", "night")
    assert shown(page, "#classes figcaption")[0].text.startswith("night: IoU")
    choose(page, "#confusion select", "dust")
    assert len(shown(page, "#confusion tbody tr")) == 7
    # the slider: by keyboard, by mouse, and over the steps
    slider, divider = one(page, "#slider"), one(page, "#divider")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    width = slider.rect["width"]
    assert left_edge(page) == pytest.approx(width / 2, abs=4)
    divider.send_keys(Keys.HOME)
    assert left_edge(page) == pytest.approx(0, abs=4)
    divider.send_keys(*[Keys.ARROW_RIGHT] * 10)
    assert left_edge(page) == pytest.approx(0.05 * width, abs=4)
    ActionChains(page).move_to_element(divider).click_and_hold().move_by_offset(
        int(width / 4), 0
    ).release().perform()
    assert left_edge(page) == pytest.approx(0.75 * width, abs=12)
    clip = one(page, "#image-left").value_of_css_property("clip-path")
    assert clip != "none"
    first = one(page, "#image-left").get_attribute("src")
    choose(page, "#view-left", "after dust")
    assert one(page, "#image-left").get_attribute("src") != first
    choose(page, "#view-right", "image")
    assert one(page, "#image-right").get_attribute("src").startswith("data:image/jpeg")
    assert one(page, "#tag-right").text == "image"
    choose(page, "#view-domain", "sim")
    one(page, "input[value=domain]").click()
    assert one(page, "#view-status").text == ""
    choose(page, "#view-domain", "night")
    choose(page, "#view-left", "after city")
    assert one(page, "#view-status").text == "Not kept with domain statistics: after city"
    assert page.get_log("browser") == []


def test_everything_can_be_reached_by_keyboard(muhdi: Muhdi, run: Path, browser: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    assert muhdi("report", run)[0] == 0
    page = opened(browser, run / "report.html")
    seen = []
    for _ in range(40):
        ActionChains(page).send_keys(Keys.TAB).perform()
        seen.append(
            page.execute_script(
                "const a = document.activeElement; return a.id || a.name || a.tagName"
            )
        )
    assert {
        "statistics",
        "domain",
        "view-domain",
        "view-left",
        "view-right",
        "divider",
        "SUMMARY",
    } <= set(seen)


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_is_legible(muhdi: Muhdi, run: Path, browser: Any, dark: bool) -> None:
    assert muhdi("report", run)[0] == 0
    page = opened(browser, run / "report.html", width=390, dark=dark)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    every_heat = [percent_cell(float(value)) for value in range(101)]
    cells = [
        f"<td class='{'hot' if cell.is_hot else ''}' style='--v:{cell.heat}'>{cell.text}</td>"
        for cell in every_heat
    ]
    table = f"<table class='heat'><tbody><tr>{''.join(cells)}</tr></tbody></table>"
    page.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", table)
    contrast = page.execute_script(CONTRAST)
    assert contrast["worst"] >= 4, contrast
    assert (contrast["page"] < 0.1) == dark


CONTRAST = """
const element = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
const canvas = element.getContext("2d", {willReadFrequently: true});
const light = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
let worst = 99, where = "";
for (const element of document.querySelectorAll("td, th, p, h1, h2, dd, dt, figcaption, label")) {
  if (!element.offsetParent || !element.textContent.trim()) continue;
  let behind = element;
  const clear = /rgba\\(0, 0, 0, 0\\)|transparent/;
  const ground = (node) => getComputedStyle(node).backgroundColor;
  while (behind && clear.test(ground(behind))) behind = behind.parentElement;
  const here = ratio(light(getComputedStyle(element).color), light(ground(behind)));
  if (here < worst) { worst = here; where = element.outerHTML.slice(0, 120); }
}
return {worst, where, page: light(getComputedStyle(document.body).backgroundColor)};
"""


def test_the_comparison_works_in_a_browser(
    muhdi: Muhdi, arms: list[Path], browser: Any, tmp_path: Path
) -> None:
    assert muhdi("compare", *arms)[0] == 0
    page = opened(browser, tmp_path / "comparison.html")
    assert page.get_log("browser") == []
    assert len(shown(page, "#arms tbody tr")) == 3
    assert len(shown(page, "#domains svg")) == 4
    choose(page, "#view-right", "lucky")
    assert one(page, "#tag-right").text == "lucky"
    one(page, "input[value=domain]").click()
    assert shown(page, "#differences figcaption")[0].text.endswith("domain statistics")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 1000
