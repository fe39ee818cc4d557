// State and what follows from a change of it.
function selectBox(box) {
  const same = box.rows[0] === box.columns[0] && box.rows[1] === box.columns[1];
  const single = box.rows[0] === box.rows[1] && box.columns[0] === box.columns[1];
  state.selection = {
    rows: sideOfTokens(...box.rows), columns: sideOfTokens(...box.columns), box, same,
    pair: single && !same ? [box.rows[0], box.columns[0]] : null,
  };
  update("selection");
}

function selectResidues(residues) {
  if (!residues.length) return;
  const side = sideOfResidues(residues);
  let box = null;
  if (tokens) {
    const mine = range(0, tokens.n - 1).filter((t) => side.residues.has(tokens.residue[t]));
    if (mine.length && mine[mine.length - 1] - mine[0] + 1 === mine.length) {
      box = { rows: [mine[0], mine[mine.length - 1]], columns: [mine[0], mine[mine.length - 1]] };
    }
  }
  state.selection = { rows: side, columns: side, box, same: true, pair: null };
  update("selection");
}

function clearSelection() {
  state.selection = null;
  update("selection");
}

function chooseModel(k) {
  state.model = k;
  update("model");
}

function update(what) {
  const modelChanged = what === "model";
  if (modelChanged) {
    drawHeadline();
    drawSamples();
    drawChains();
    drawFindings();
    drawPairs();
    loadErrors(state.model).then(drawPicked);
    byId("sample").value = state.model;
  } else {
    drawErrors();
  }
  for (const button of document.querySelectorAll("#tools .group button")) {
    const [key, value] = button.id.split("-");
    const chosen = state[key] === value && !(key === "colour" && state.selection);
    button.setAttribute("aria-pressed", String(chosen));
  }
  if (byId("overlay")) byId("overlay").setAttribute("aria-pressed", String(state.overlay));
  drawSequence();
  drawPlddt();
  drawPicked();
  drawLegend();
  drawStructure({ rebuild: modelChanged });
}

function redraw() {
  drawErrors();
  drawPairs();
  drawPlddt();
  drawCoverage();
}

byId("name").textContent = data.name;
showNotes();
buildTools();
buildSequence();
startErrors();
startPairs();
startPlddt();
startCoverage();
drawDepths();
drawRun();
update("model");
drawCoverage();
// The rest of the page is there before the structure, which takes longest.
requestAnimationFrame(() => setTimeout(() => {
  startViewer();
  drawStructure({ rebuild: true });
  document.documentElement.dataset.ready = "yes";
}));
themeListeners.push(() => {
  redraw();
  drawStructure();
});
let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    redraw();
    if (canvas3d.viewer) canvas3d.viewer.resize();
  });
});
addEventListener("keydown", (event) => { if (event.key === "Escape") clearSelection(); });
// For the console, and for the tests.
window.seedfold = { data, state, canvas3d, pae, chooseModel, selectBox, selectResidues, clearSelection };
