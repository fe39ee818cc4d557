"""The page: escaping, and what a reader can do with it in a real browser."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from seedfold.data_pipeline import output
from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.mmcif_tables import Metadata
from seedfold.data_pipeline.structure import build_structure
from seedfold.report import PageData, write_page, write_page_data
from seedfold.report.molecule import read_models
from seedfold.report.page import script_json

EVIL = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028&lt;$x${y}"
)
CANVAS = (
    "(() => {{ const from = document.querySelector('{}');"
    "const to = document.createElement('canvas');"
    "[to.width, to.height] = [from.width, from.height];"
    "const g = to.getContext('2d'); g.drawImage(from, 0, 0);"
    "const d = g.getImageData(0, 0, to.width, to.height).data; const seen = new Map();"
    "let hash = 0; for (let i = 0; i < d.length; i += 4) {{"
    "const c = d[i] * 65536 + d[i + 1] * 256 + d[i + 2]; seen.set(c, (seen.get(c) || 0) + 1);"
    "hash = (hash * 31 + c) % 4294967291; }}"
    "return [seen.size, Math.max(...seen.values()) / (d.length / 4), hash]; }})()"
)


class Tags(HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("page") / "q"
    return write_page(shutil.copytree(finished.folder, copy))


@pytest.fixture
def shown(browser, page):
    browser.size(1400, 900)
    browser.open(page)
    browser.wait("seedfold.pae.shownModel === 0")
    return browser


def canvas(browser, selector: str) -> tuple[int, float, int]:
    """Number of colours, share of the commonest, and a hash of the pixels."""
    return tuple(browser.run(CANVAS.format(selector)))


def cell(browser, row: int, column: int, n: int = 47) -> tuple[float, float]:
    """Middle of a cell of the PAE map, in pixels of the window."""
    x, y, w = browser.run(
        "(() => { const r = document.getElementById('pae').getBoundingClientRect();"
        "return [r.left, r.top, r.width]; })()"
    )
    size = (w - 48) / n
    return x + 40 + (column + 0.5) * size, y + 22 + (row + 0.5) * size


def text_of(browser, name: str) -> str:
    return browser.run(f"document.getElementById('{name}').textContent")


def test_json_in_a_script_block_cannot_end_it():
    text = script_json({"x": EVIL})
    assert "<" not in text and ">" not in text and "\u2028" not in text
    assert json.loads(text) == {"x": EVIL}


def test_the_file_refers_to_nothing(page):
    tags = Tags(page.read_text()).tags
    assert [name for name, _ in tags].count("script") == 3
    assert not [t for t in tags if t[1].get("src") or t[1].get("href") or t[0] == "link"]
    (policy,) = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'")
    assert page.stat().st_size < 1_500_000


def test_it_loads_without_an_error_or_a_request(shown, page):
    assert shown.errors == []
    assert shown.requests == [page.resolve().as_uri()]
    assert "UNTRAINED" in text_of(shown, "notes")
    assert "seedfold predict q.yaml -o run" in text_of(shown, "run")
    assert shown.run("document.querySelectorAll('#samples tbody tr').length") == 3
    for selector in ("#viewer canvas", "#pae", "#plddt", "#iptm", "#coverage"):
        colours, commonest, _ = canvas(shown, selector)
        assert colours > 5 and commonest < 0.99, selector
    assert canvas(shown, "#viewer canvas")[0] > 100


def test_a_notice_is_shown_calmly_and_random_numbers_are_not(browser, shown, folder):
    alarm = "document.getElementById('notes').classList.contains('alarm')"
    mark = "document.querySelector('#notes strong').textContent"
    assert shown.run(alarm) and shown.run(mark).startswith("UNTRAINED")
    notice = "nano: demonstration weights; rough <b>: use --model protenix-v2; see docs"
    for path in folder.glob("q_summary_confidences_*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "notes": [notice]}))
    browser.open(write_page(folder))
    browser.wait("seedfold.pae.shownModel === 0")
    assert not browser.run(alarm) and browser.run(mark) == "nano: demonstration weights"
    assert text_of(browser, "notes") == notice
    assert browser.errors == []


def test_a_clean_report_of_guided_samples_is_explained(browser, shown, folder):
    assert "guidance" not in text_of(shown, "verdict")
    for path in folder.glob("q_summary_confidences_*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "guided": True}))
    browser.open(write_page(folder))
    browser.wait("seedfold.pae.shownModel === 0")
    assert "(guidance): that it is right says nothing" in text_of(browser, "verdict")
    assert browser.errors == []


def test_a_click_on_the_pae_selects_its_residues(shown, finished):
    before = canvas(shown, "#viewer canvas")
    shown.drag(cell(shown, 12, 20 + 3))
    assert shown.run("[...seedfold.state.selection.rows.residues]") == [12]
    assert shown.run("[...seedfold.state.selection.columns.residues]") == [20]
    # One atom of the ligand, not all of it.
    assert shown.run("seedfold.state.selection.columns.atoms.size") == 1
    readout = text_of(shown, "pae-readout")
    assert readout.startswith("aligned on A/ARG13, scored L/SAH1/")
    assert abs(float(readout.split()[-2]) - finished.pae[0][12, 23]) <= 0.126
    assert canvas(shown, "#viewer canvas")[2] != before[2]
    marked = "[...document.querySelectorAll('#sequence .row')].map(s => s.title)"
    assert shown.run(marked) == ["A/ARG13"]
    shown.run("document.getElementById('clear').click()")
    assert shown.run("seedfold.state.selection") is None
    assert canvas(shown, "#viewer canvas")[2] == before[2]
    assert shown.errors == []


def test_a_box_selects_ranges_and_gives_their_mean(shown, finished):
    shown.drag(cell(shown, 2, 9), cell(shown, 5, 15))
    assert shown.run("[...seedfold.state.selection.rows.residues]") == [2, 3, 4, 5]
    assert shown.run("[...seedfold.state.selection.columns.residues]") == list(range(9, 16))
    words = shown.run("document.querySelector('#picked b').textContent").split()
    assert words[:2] == ["mean", "PAE"]
    assert abs(float(words[2]) - finished.pae[0][2:6, 9:16].mean()) < 0.2
    assert abs(float(words[-2]) - finished.pae[0][9:16, 2:6].mean()) < 0.2


def test_the_sample_switch_changes_everything(shown, finished):
    _, models = read_models([finished.folder / f"q_model_{i}.cif" for i in range(3)])
    before = [canvas(shown, s)[2] for s in ("#viewer canvas", "#pae", "#plddt")]
    shown.run("document.querySelectorAll('#samples tbody tr')[2].click()")
    shown.wait("seedfold.pae.shownModel === 2")
    after = [canvas(shown, s)[2] for s in ("#viewer canvas", "#pae", "#plddt")]
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert changed == [True] * 3
    script = "(a => [a.x, a.y, a.z])(seedfold.canvas3d.model.selectedAtoms({serial: 7})[0])"
    np.testing.assert_allclose(shown.run(script), models[2].x[7], atol=0.001)
    score = json.loads((finished.folder / "q_summary_confidences_2.json").read_text())
    assert f"{score['ranking_score']:.3f}" in text_of(shown, "headline")
    assert "model 2 of 3" in text_of(shown, "which")
    assert shown.run("decodeURI(document.getElementById('file').href)").endswith("q_model_2.cif")
    assert shown.run("document.getElementById('sample').value") == "2"
    assert shown.errors == []


def test_styles_colours_and_superposition_are_drawn(shown):
    seen = {canvas(shown, "#viewer canvas")[2]}
    buttons = ("style-trace", "style-sticks", "style-spheres", "colour-chain", "overlay")
    for n, button in enumerate(buttons, start=2):
        shown.run(f"document.getElementById('{button}').click()")
        seen.add(canvas(shown, "#viewer canvas")[2])
        assert len(seen) == n, button
        assert shown.run(f"document.getElementById('{button}').getAttribute('aria-pressed')")
    assert shown.run("seedfold.canvas3d.viewer.getModel(2) !== null")
    assert shown.errors == []


def test_sequence_plot_chains_and_faults_select(shown):
    shown.run("document.querySelectorAll('#chains tbody tr')[1].click()")
    assert shown.run("[...seedfold.state.selection.rows.residues]") == [20]
    shown.run("document.querySelector('#worst tbody tr').click()")
    assert shown.run("seedfold.state.selection.rows.residues.size") >= 1
    middle = (
        "(n => { n.scrollIntoView({block: 'center'}); const r = n.getBoundingClientRect();"
        "return [r.left + r.width / 2, r.top + r.height / 2]; })"
        "(document.querySelector('[data-residue=\"%d\"]'))"
    )
    start, end = shown.run(middle % 4), shown.run(middle % 8)
    shown.drag(start, end)
    assert shown.run("[...seedfold.state.selection.rows.residues]") == [4, 5, 6, 7, 8]
    assert shown.run("seedfold.state.selection.box.rows") == [4, 8]


def test_a_phone_needs_no_sideways_scrolling(browser, page):
    browser.size(390, 844, phone=True, dark=True)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.documentElement.dataset.theme") == "dark"
    assert browser.run("document.getElementById('viewer').clientWidth") > 300
    browser.run("document.getElementById('theme').click()")
    assert browser.run("document.documentElement.dataset.theme") == "light"
    assert browser.errors == []


def test_names_cannot_become_markup(folder, browser):
    for rank in range(3):
        path = folder / f"q_summary_confidences_{rank}.json"
        content = json.loads(path.read_text())
        content |= {"notes": [EVIL], "model": EVIL, "seed": EVIL}
        path.write_text(json.dumps(content))
        path = folder / f"q_stereochemistry_{rank}.json"
        content = json.loads(path.read_text())
        content["worst"][0]["atoms"] = [EVIL]
        content["checks"][EVIL] = {"checked": 1, "outliers": 1}
        path.write_text(json.dumps(content))
        path = folder / f"q_model_{rank}.cif"
        text = path.read_text()
        assert "S-ADENOSYL-L-HOMOCYSTEINE" in text
        plain = EVIL.replace("\u2028", "")
        path.write_text(text.replace("S-ADENOSYL-L-HOMOCYSTEINE", f"'{plain}'"))
    (folder / "job.json").write_text(json.dumps({"command": EVIL, "versions": {EVIL: EVIL}}))
    page = write_page(folder)
    assert [name for name, _ in Tags(page.read_text()).tags].count("script") == 3
    browser.size(1400, 900)
    browser.open(page)
    assert browser.run("window.hacked") is None
    assert text_of(browser, "notes") == EVIL
    assert EVIL in text_of(browser, "run") and EVIL in text_of(browser, "checks")
    assert browser.run("document.querySelectorAll('img, script').length") == 3
    assert browser.errors == []


def test_without_pae_the_rest_still_works(folder, browser):
    for path in [*folder.glob("*.npz"), *folder.glob("*stereochemistry*")]:
        path.unlink()
    browser.size(1400, 900)
    browser.open(write_page(folder))
    assert "not stored" in text_of(browser, "pae-readout")
    browser.run("seedfold.selectResidues([1, 2])")
    assert canvas(browser, "#viewer canvas")[0] > 100
    assert browser.errors == []


def test_five_samples_of_500_tokens_open(tmp_path, browser):
    sequence = "GSHMKTAYIAKQRQISFVKS" * 25
    (tmp_path / "q.yaml").write_text(f"sequences:\n  - protein: {{id: A, sequence: {sequence}}}\n")
    structure = build_structure(read_queries(tmp_path / "q.yaml")[0])
    random = np.random.default_rng(1)
    centre = np.cumsum(random.normal(size=(500, 3)) * 2, axis=0)[structure.atoms.res_id - 1]
    for rank in range(5):
        coord = centre + random.normal(size=centre.shape)
        output.write_mmcif(
            structure,
            tmp_path / f"q_model_{rank}.cif",
            coord=coord,
            plddt=random.uniform(20, 99, len(coord)),
            name="q",
            metadata=Metadata(version="0", model="none", notes=()),
        )
        path = tmp_path / f"q_summary_confidences_{rank}.json"
        path.write_text(json.dumps({"chain_ids": ["A"], "plddt": 60.0}))
    pae = [random.uniform(0, 31, (500, 500)) for _ in range(5)]
    tokens = {"token_chain_ids": ["A"] * 500, "token_res_ids": list(range(1, 501))}
    write_page_data(tmp_path, "q", PageData.of(pae, **tokens))
    page = write_page(tmp_path)
    assert page.stat().st_size < 15_000_000
    browser.size(1400, 900)
    print(f"opened in {min(browser.open(page) for _ in range(3)):.0f} ms")
    assert canvas(browser, "#viewer canvas")[0] > 100
    assert browser.errors == []
