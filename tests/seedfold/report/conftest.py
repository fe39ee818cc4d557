"""A small finished prediction, and Chromium by its DevTools protocol over a pipe."""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.msa import msa_depth
from seedfold.data_pipeline.tokens import tokenize
from seedfold.models import UNTRAINED_NANO, load_model
from seedfold.prediction import Settings, fold, prepare, write_predictions
from seedfold.report import PageData, chain_alignments, write_page_data

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Browser:
    """One Chromium with one page."""

    def __init__(self, program: str, profile: Path):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        command = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$0" "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._rest, self._session = 0, b"", None
        self.errors: list[str] = []
        self.requests: list[str] = []
        page = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer; events in between are recorded."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._record(answer)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            read = os.read(self._in, 1 << 20)
            assert read, "Chromium has ended"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _record(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.errors.append(str(details.get("exception", {}).get("description", details)))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.errors.append(str([a.get("value") for a in params["args"]]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def open(self, page: Path) -> float:
        """Loads a file; returns the milliseconds until all of it was drawn."""
        self.errors.clear()
        self.requests.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait(f"location.href === {json.dumps(page.resolve().as_uri())}")
        ready = "document.documentElement.dataset.ready"
        return self.run(
            "new Promise(done => { const look = () => requestAnimationFrame(() => "
            f"{ready} ? setTimeout(() => done(performance.now())) : look()); look(); }})"
        )

    def run(self, script: str) -> Any:
        """Value of an expression on the page."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 30.0) -> None:
        """Until an expression holds."""
        deadline = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, condition
            time.sleep(0.05)

    def drag(self, start: tuple[float, float], end: tuple[float, float] | None = None) -> None:
        """Presses the left button at `start` and lets go at `end`, or clicks; viewport pixels."""
        for kind, (x, y) in (
            ("mouseMoved", start),
            ("mousePressed", start),
            ("mouseMoved", end or start),
            ("mouseReleased", end or start),
        ):
            buttons = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **buttons)

    def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Sets the window, and light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """The window, or the whole page, as PNG."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        image = base64.b64decode(found["data"])
        if path is not None:
            path.write_bytes(image)
        return image

    def close(self) -> None:
        """Ends the browser."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out)
        os.close(self._in)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Skips where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium here: the pages are not tested in a browser")
    found = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


SEQUENCE = "GSHMKTAYIAKQRQISFVKS"
INPUT = f"""sequences:
  - protein: {{id: A, sequence: {SEQUENCE}, msa: a.a3m}}
  - ligand: {{id: L, ccd: SAH}}
  - ligand: {{id: Z, ccd: ZN}}
"""
ALIGNMENT = f">q\n{SEQUENCE}\n>x\n----{SEQUENCE[4:]}\n>y\n{SEQUENCE[:10]}----------\n"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A prediction on disk, and what it was written from."""

    folder: Path
    pae: tuple[np.ndarray, ...]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Three samples of the untrained network, with what the page needs. Copy before changing."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "a.a3m").write_text(ALIGNMENT)
    (folder / "q.yaml").write_text(INPUT)
    model = load_model(UNTRAINED_NANO)
    prepared = prepare(read_queries(folder / "q.yaml")[0], model.options)
    settings = Settings(n_samples=3, n_cycles=1, n_steps=12)
    found = fold(model, prepared, 7, settings, lambda *_: None)
    out = folder / "q"
    out.mkdir()
    write_predictions(found, prepared, out, model, settings=settings, full=True)
    chains = prepared.structure.chains
    pae = tuple(p.scores.pae.cpu().numpy() for p in found)
    data = PageData.of(
        pae,
        token_chain_ids=[chains[i].id for i in prepared.features.asym_id.tolist()],
        token_res_ids=prepared.features.residue_index.tolist(),
        alignments=chain_alignments(
            chains,
            prepared.msas,
            msa_depth(tokenize(prepared.structure), prepared.structure, prepared.msas),
        ),
    )
    write_page_data(out, "q", data)
    job = {"command": "seedfold predict q.yaml -o run", "versions": {"torch": "9.9"}}
    (out / "job.json").write_text(json.dumps(job))
    return Finished(folder=out, pae=pae)


@pytest.fixture
def folder(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished prediction that a test may change."""
    return Path(shutil.copytree(finished.folder, tmp_path / "q"))
