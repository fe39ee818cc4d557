"""The index of a batch."""

import json
import shutil

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.report import write_index, write_page, write_reports

EVIL = "</script><script>window.hacked=1</script>"


@pytest.fixture
def batch(finished, tmp_path):
    for name, score in (("one", 0.2), ("two", 0.9), ("ten <b>", 0.5)):
        shutil.copytree(finished.folder, tmp_path / name)
        path = tmp_path / name / "q_summary_confidences_0.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "ranking_score": score}))
    ok = {"name": "two", "status": "ok", "reason": None, "folder": "/elsewhere/two", "n_token": 47}
    bad = {"name": "bad", "status": "failed", "reason": f"bad.yaml: {EVIL}", "folder": None}
    (tmp_path / "run_summary.json").write_text(
        json.dumps({"seedfold": "0.1.0", "model": "nano", "notes": [], "inputs": [ok, bad]})
    )
    return tmp_path


def test_every_prediction_gets_a_page_and_a_row(batch, browser):
    written = write_reports(batch)
    assert [p.relative_to(batch).as_posix() for p in written] == [
        "one/report.html",
        "ten <b>/report.html",
        "two/report.html",
        "index.html",
    ]
    browser.size(1200, 700)
    browser.open(batch / "index.html")
    column = "[...document.querySelectorAll('#rows tbody tr')].map(r => r.cells[%d].textContent)"
    assert browser.run(column % 0) == ["one", "ten <b>", "two", "bad"]
    assert browser.run(column % 1) == ["ok", "ok", "ok", "failed"]
    head = "document.querySelectorAll('#rows th')[2].click()"
    browser.run(head)
    assert browser.run(column % 2) == ["0.900", "0.500", "0.200", "\u2013"]
    browser.run(head)
    # What has no score stays last.
    assert browser.run(column % 2) == ["0.200", "0.500", "0.900", "\u2013"]
    links = browser.run(
        "[...document.querySelectorAll('#rows a')].map(a => a.getAttribute('href'))"
    )
    assert links == ["one/report.html", "ten%20%3Cb%3E/report.html", "two/report.html"]
    browser.run(
        "(f => { f.value = 'window'; f.dispatchEvent(new Event('input')); })"
        "(document.getElementById('filter'))"
    )
    assert browser.run(column % 0) == ["bad"]
    assert browser.run("window.hacked") is None
    assert browser.errors == []
    assert len(browser.requests) == 1


def rows_of(batch):
    text = write_index(batch).read_text()
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])["rows"]


@pytest.mark.parametrize(("of_chains", "of_ligands"), [(0, 0), (0, 1), (1, 0)])
def test_a_clash_is_one_of_chains_or_of_ligands(batch, of_chains, of_ligands):
    path = batch / "one" / "q_summary_confidences_0.json"
    flags = {"has_clash": bool(of_chains), "ligand_clash": bool(of_ligands)}
    path.write_text(json.dumps({**json.loads(path.read_text()), **flags}))
    assert rows_of(batch)[0]["clash"] == bool(of_chains or of_ligands)


def test_the_row_of_the_run_adds_to_that_of_the_folder(batch):
    rows = rows_of(batch)
    (two,) = [r for r in rows if r["name"] == "two"]
    assert (two["ranking_score"], two["n_token"], two["page"]) == (0.9, 47, None)
    assert len(rows) == 4


def test_one_prediction_is_one_page(folder):
    assert write_reports(folder) == [folder / "report.html"]


def test_a_damaged_prediction_does_not_stop_the_others(batch):
    (batch / "one" / "q_model_1.cif").write_text("")
    with pytest.raises(InputError, match=r"q_model_1\.cif"):
        write_reports(batch)
    assert (batch / "two" / "report.html").is_file() and (batch / "index.html").is_file()
    assert not (batch / "one" / "report.html").exists()


def test_a_page_that_was_there_survives_a_failure(folder):
    page = write_page(folder)
    (folder / "q_model_0.cif").write_text("")
    with pytest.raises(InputError):
        write_page(folder)
    assert page.stat().st_size > 500_000
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no predictions"):
        write_reports(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        write_reports(tmp_path / "nowhere")
