"""The command that compares runs."""

from pathlib import Path

from tools.compare_csv import main, short_names


def write(folder: Path, name: str, scale: float, num_classes: int = 3) -> Path:
    path = folder / f"2026-01-31_voc_2-1_{name}.csv"
    unseen = ",x" * (num_classes - 2)
    path.write_text(f"0,{scale},{scale / 2}{unseen},{0.75 * scale}\n")
    return path


def test_differences_and_picture(tmp_path, capsys):
    files = [str(write(tmp_path, "FT", 0.4)), str(write(tmp_path, "RCIL", 0.8))]
    assert main([*files, "--png", str(tmp_path / "curve.png"), "--title", "VOC"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["FT", "0", "30.00", "-", "30.00", "30.00"]
    assert lines[3].split() == [
        "RCIL",
        "0",
        "60.00",
        "+30.00",
        "-",
        "-",
        "60.00",
        "+30.00",
        "60.00",
        "+30.00",
    ]
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_table_for_a_paper(tmp_path, capsys):
    assert main([str(write(tmp_path, "a", 0.4)), "--latex"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(r"\begin{tabular}{lr") and r"step & first & later & all & average \\" in said


def test_runs_of_different_tasks_are_refused(tmp_path, capsys):
    assert main([str(write(tmp_path, "a", 0.4)), str(write(tmp_path, "b", 0.4, num_classes=5))]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "compare runs of one task" in err


def test_short_names_tell_files_apart():
    def names(*stems: str) -> list[str]:
        return short_names([Path("results") / f"{stem}.csv" for stem in stems])

    assert names("d_voc_15-1_FT", "d_voc_15-1_RCIL") == ["FT", "RCIL"]
    assert names("d_voc_15-1_RCIL_a", "d_voc_15-1_RCIL_b") == ["a", "b"]
    assert names("one_voc_15-1_RCIL", "two_voc_15-1_RCIL") == ["one", "two"]
    assert names("d_voc_15-1_RCIL", "d_voc_15-1_RCIL_long") == ["RCIL", "RCIL_long"]
    assert names("d_voc_15-1_FT") == ["FT"]
    assert names("same", "same") == ["results/same.csv", "results/same.csv"]
