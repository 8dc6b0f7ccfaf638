"""The report: figures of the papers, one page that needs nothing else, and a browser that draws all of it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metrics.figures import heat
from metrics.results import Row, forgetting, write_row
from tests.published import FIGURES, write_published
from tests.workplace import Workplace
from tools.report import main, summary_grid
from tools.reporting.runs import published, read_run

OVERLAPPED = "2022-10-17_voc_15-5s_RCIL_overlap"


def test_the_published_files_give_the_published_figures(tmp_path: Path):
    for path in write_published(tmp_path, *FIGURES):
        run = read_run(path)
        grid = summary_grid([run])
        row = dict(zip(grid.header, grid.cells[0], strict=True))
        assert (row["all"], row["average over steps"], row["old"], row["new"]) == FIGURES[path.stem][2:]
        task = path.stem.split("_")[2].replace("15-5s", "15-1")
        assert run.task == task and not run.class_names[-1].startswith("class ")


def test_published_figures_stand_beside_a_run_of_the_same_setting():
    runs, finals = published("voc", "15-1", "overlapped")
    assert finals["RCIL"] == pytest.approx(0.594)
    assert list(runs) == ["RCIL, authors, 2022-08-26", "RCIL, authors, 2022-10-17"]
    assert published("cityscapes_domain", "1-1", "by domain")[1]["RCIL"] == pytest.approx(0.489)
    assert published("voc", "15-1", "partitioned") == published("voc", "15-1", "") == ({}, {})
    # Where no scenario is told, that of the task, if it was published for one alone.
    runs, finals = published("ade", "100-5", "")
    assert finals["RCIL"] == pytest.approx(0.296) and len(runs) == 1


def test_figures_by_hand(tmp_path: Path):
    path = tmp_path / "2026-01-31_own_2-1_a.csv"
    for row in (Row(0, (0.8, 0.6), 3, 0.7), Row(1, (0.7, 0.5, 0.4), 3, 0.5), Row(2, (0.9, 0.2, 0.3), 3, 1.4 / 3)):
        write_row(path, row)
    run = read_run(path)
    assert run.arrival == [0, 0, 1] and run.class_names == ["class 0", "class 1", "class 2"]
    assert run.figures["harmonic mean"] == pytest.approx(2 * 0.55 * 0.3 / 0.85)
    assert forgetting(run.rows)[:2] == pytest.approx([-0.1, 0.4])
    assert run.figures["forgetting"] == pytest.approx(0.4 / 3)


def test_the_name_of_a_table_says_what_it_is_of(tmp_path: Path):
    def named(stem: str) -> tuple[str, str, str]:
        write_row(tmp_path / f"{stem}.csv", Row(0, (0.5,) * 19, 19, 0.5))
        run = read_run(tmp_path / f"{stem}.csv")
        return run.dataset, run.task, run.name

    assert named("2026-01-31_cityscapes_domain_11-5_RCIL_a") == ("cityscapes_domain", "11-5", "RCIL_a")
    assert named("2026-01-31_mine_2-1_FT") == ("mine", "2-1", "FT")
    assert named("mine") == ("", "", "mine")


def test_a_class_absent_at_first_is_forgotten_from_its_best(tmp_path: Path):
    path = tmp_path / "2026-01-31_own_2-1_a.csv"
    path.write_text("0,0.5,X,0.5\n1,0.4,0.6,0.5\n2,0.3,0.2,0.25\n")
    assert forgetting(read_run(path, 2).rows)[1] == pytest.approx(0.4)


def test_text_on_a_heat_map_can_be_read():
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for percent in range(101):
        low, high = sorted(map(luminance, heat(percent / 100)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.fixture(scope="module")
def reports(trained: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of one run, of ten, and of one with a journal and pictures beside itself under another name."""
    folder = tmp_path_factory.mktemp("reports")
    [authors] = write_published(folder / "one", OVERLAPPED)
    ten = []
    for number in range(10):
        ten.append(folder / "ten" / f"2026-01-31_voc_15-1_run{number}.csv")
        for row in read_run(authors).rows:
            iou = tuple(value * (1 - number / 20) for value in row.per_class)
            write_row(ten[-1], Row(row.step, iou, row.num_classes, row.overall * (1 - number / 20)))
    own = trained.results()
    for name, paths in {"one": [authors], "ten": ten, "own": [own]}.items():
        assert main([*map(str, paths), "--out", str(folder / name / "report")]) == 0
    return {name: folder / name / "report" for name in ("one", "ten", "own")}


def test_a_report_has_all_its_files(reports: dict[str, Path]):
    for name, count in (("one", 1), ("ten", 10), ("own", 1)):
        names = {path.name for path in reports[name].iterdir()}
        assert {"report.html", "report.md", "curves.png"} <= names and ("strip.png" in names) == (name == "own")
        assert len(list(reports[name].glob("heatmap_*.png"))) == count
        for path in reports[name].glob("*.png"):
            with Image.open(path) as picture:
                assert min(picture.size) > 200
    text = (reports["own"] / "report.md").read_text()
    assert "| crop_size | 64 |" in text and "![strip](strip.png)" in text and "| tiny | 1 |" in text


def test_published_figures_stand_beside_runs_of_published_pictures_alone(
    reports: dict[str, Path], trained: Workplace, tmp_path: Path
):
    """Drawn pictures lie in the layout of VOC, and a table without journal may be of any."""
    told = {name: "## Published" in (reports[name] / "report.md").read_text() for name in reports}
    assert told == {"one": True, "ten": False, "own": False}
    shutil.copytree(trained.results().parent, tmp_path / "results")
    table = tmp_path / "results" / trained.results().name
    journal = table.with_suffix(".jsonl")
    assert '"published_pictures": false' in journal.read_text()
    journal.write_text(journal.read_text().replace('"published_pictures": false', '"published_pictures": true'))
    assert main([str(table), "--out", str(tmp_path / "report")]) == 0
    assert "## Published" in (tmp_path / "report" / "report.md").read_text()


def test_a_page_asks_for_nothing_but_itself(reports: dict[str, Path]):
    for folder in reports.values():
        page = (folder / "report.html").read_text()
        assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|url\((?!#)[^)]*\)|@import|<script', page)


PROBE = """<script>
const charts = [...document.querySelectorAll("img.curves")].map(image => {
  const box = image.getBoundingClientRect();
  return [box.width > 400, box.right <= document.documentElement.clientWidth];
});
const images = [...document.images].every(image => image.naturalWidth > 0);
const figures = [...document.querySelectorAll("td:not(.left)")].every(
  cell => getComputedStyle(cell).textAlign == "right");
const page = document.documentElement;
const reached = [...document.querySelectorAll(".scroll")].every(box => box.tabIndex == 0 && box.ariaLabel);
document.title = JSON.stringify({charts, images, figures, reached, count: document.images.length,
  overflow: page.scrollWidth - page.clientWidth, paper: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color});
</script>"""


@pytest.mark.parametrize(("name", "width", "dark"), [("one", 1200, False), ("ten", 1200, False), ("own", 500, True)])
def test_a_browser_draws_it(reports: dict[str, Path], tmp_path: Path, name: str, width: int, dark: bool):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium")
    page = tmp_path / "page.html"
    page.write_text((reports[name] / "report.html").read_text().replace("</body>", f"{PROBE}</body>"))
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", *(["--blink-settings=preferredColorScheme=0"] if dark else [])]
    done = subprocess.run([browser, *words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert seen["charts"] == [[True, True]]
    assert seen["images"] and seen["figures"] and seen["reached"] and seen["overflow"] <= 0
    assert seen["count"] == 1 + (name == "own")
    assert seen["paper"] == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")
    assert seen["ink"] == ("rgb(230, 237, 243)" if dark else "rgb(36, 41, 47)")


def test_curves_for_tensorboard(tmp_path: Path):
    [path] = write_published(tmp_path, OVERLAPPED)
    assert main([str(path), "--out", str(tmp_path / "out"), "--tensorboard", str(tmp_path / "board")]) == 0
    events = EventAccumulator(str(tmp_path / "board" / "RCIL_overlap")).Reload()
    assert [event.step for event in events.Scalars("test/mIoU")] == list(range(6))
    assert events.Scalars("test/mIoU")[-1].value == pytest.approx(0.5987, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: [folder / "none.csv"], "No such file"),
        (lambda folder: [written(folder / "a.csv", "")], "is empty"),
        (lambda folder: [written(folder / "a.csv", "step,IoU\n")], "a row is step,IoU_0"),
        (lambda folder: write_published(folder, OVERLAPPED, "2022-10-04_ade_100-50_RCIL"), "of data set ade, and"),
        (
            lambda folder: write_published(folder, OVERLAPPED, "2022-08-26_voc_10-1_RCIL_overlap"),
            "is of task 10-1, and",
        ),
        (lambda folder: write_published(folder, OVERLAPPED) * 2, "is named twice"),
        (
            lambda folder: [*write_published(folder, OVERLAPPED), folder / ".." / folder.name / f"{OVERLAPPED}.csv"],
            "is named twice",
        ),
        (
            lambda folder: [*write_published(folder, OVERLAPPED), written(folder / "b.csv", "\xff")],
            "cannot be read (no text)",
        ),
        (lambda folder: with_journal(folder, '{"event": "run", "class_names": ["cat"]}\n'), "of another run"),
        (lambda folder: with_journal(folder, "a diary\n"), "jsonl, line 1: Expecting value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture, make, said: str):
    out = tmp_path / "out"
    assert main([*map(str, make(tmp_path)), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith("error: ") and shown.err.count("\n") == 1 and said in shown.err
    assert not out.exists()


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("latin1"))
    return path


def with_journal(folder: Path, text: str) -> list[Path]:
    [path] = write_published(folder, OVERLAPPED)
    written(path.with_suffix(".jsonl"), text)
    return [path]
