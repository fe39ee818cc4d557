// Numbers and findings as tables.
const CHECKS = {
  chirality: "chirality", double_bonds: "double bonds", bond_lengths: "bond lengths",
  bond_angles: "bond angles", aromatic_rings: "aromatic rings", trigonal_atoms: "trigonal atoms",
  links: "links between residues", peptide_bonds: "peptide bonds", clashes: "clashes",
};

function drawHeadline() {
  const { summary } = models[state.model];
  const clash = summary.has_clash || summary.ligand_clash;
  const numbers = [
    ["Ranking score", shown(summary.ranking_score, 3)], ["pTM", shown(summary.ptm, 2)],
    ["ipTM", shown(summary.iptm, 2)], ["pLDDT", shown(summary.plddt, 1)],
    ["gPDE, \u00c5", shown(summary.gpde, 1)], ["Clash", clash ? "yes" : "no", clash ? "bad" : ""],
  ];
  byId("headline").replaceChildren(...numbers.map(([label, value, mark]) =>
    make("div", {}, make("dt", {}, label), make("dd", { className: mark || "" }, value))));
  byId("which").textContent = `model ${state.model} of ${models.length}, seed ` +
    `${shown(summary.seed)}, sample ${shown(summary.sample)}`;
  byId("file").href = encodeURI(models[state.model].file).replaceAll("#", "%23").replaceAll("?", "%3F");
}

function outliers(model) {
  if (!model.stereochemistry) return null;
  return Object.values(model.stereochemistry.checks).reduce((sum, c) => sum + c.outliers, 0);
}

function drawSamples() {
  const score = (label, key, digits) =>
    ({ label, number: true, digits, value: (m) => m.summary[key] });
  fillTable(byId("samples"), [
    { label: "Model", value: (_, i) => i },
    { label: "Seed", value: (m) => m.summary.seed },
    { label: "Sample", value: (m) => m.summary.sample },
    score("Ranking score", "ranking_score", 4), score("pTM", "ptm", 3), score("ipTM", "iptm", 3),
    score("pLDDT", "plddt", 1), score("gPDE", "gpde", 2),
    { label: "Clashes", number: true, value: (m) => m.summary.n_clashes,
      mark: (m) => (m.summary.has_clash || m.summary.ligand_clash ? "bad" : "") },
    { label: "Outliers", number: true, value: outliers, title: "stereochemistry" },
    { label: "RMSD to model 0, \u00c5", number: true, digits: 2, value: (m) => m.rmsd,
      title: "after superposition on CA and C1' atoms" },
  ], models, (row, _, i) => {
    row.classList.toggle("chosen", i === state.model);
    activatable(row, () => chooseModel(i));
  });
}

function drawChains() {
  const { summary } = models[state.model];
  const score = (key) => (chain) => (summary[key] || {})[chain.id];
  const swatch = (c, i) => make("span", {},
    make("i", { style: `display:inline-block;width:10px;height:10px;border-radius:3px;` +
      `margin-right:7px;background:${chainColour(i)}` }), c.id);
  fillTable(byId("chains"), [
    { label: "Chain", value: swatch },
    { label: "Kind", value: (c) => c.kind },
    { label: "Residues", number: true, value: (c) => c.n_residue },
    { label: "Atoms", number: true, value: (c) => c.n_atom },
    { label: "pLDDT", number: true, digits: 1, value: score("chain_plddt") },
    { label: "pTM", number: true, digits: 2, value: score("chain_ptm") },
    { label: "ipTM", number: true, digits: 2, value: score("chain_iptm") },
    { label: "Description", text: true, value: (c) => c.description || null },
  ], chains, (row, _, i) => activatable(row, () => selectResidues(range(...chainRange[i]))));
}

function drawFindings() {
  const { summary, stereochemistry } = models[state.model];
  const words = [];
  if (summary.has_clash) words.push("two polymer chains overlap");
  if (summary.ligand_clash) words.push("a ligand is inside another chain");
  words.push(`${shown(summary.n_clashes)} pairs of atoms of different chains within 1.1 \u00c5`);
  const verdict = byId("verdict");
  const guided = "Kept within limits while sampling (guidance): that it is right says nothing about the fold.";
  verdict.textContent = `${words.join("; ")}.${summary.guided ? ` ${guided}` : ""}`;
  verdict.className = summary.has_clash || summary.ligand_clash ? "bad" : "";
  byId("faults").hidden = !stereochemistry || !stereochemistry.worst.length;
  if (!stereochemistry) {
    byId("checks").replaceChildren(make("tbody", {}, make("tr", {}, make("td", {}, "not recorded"))));
    return;
  }
  const checks = Object.entries(stereochemistry.checks);
  fillTable(byId("checks"), [
    { label: "Check", value: ([kind]) => CHECKS[kind] || kind },
    { label: "Checked", number: true, value: ([, c]) => c.checked },
    { label: "Wrong", number: true, value: ([, c]) => c.outliers,
      mark: ([, c]) => (c.outliers ? "bad" : "good") },
    { label: "%", number: true,
      value: ([, c]) => (c.checked ? ((100 * c.outliers) / c.checked).toFixed(1) : null) },
  ], checks);
  fillTable(byId("worst"), [
    { label: "Check", value: (f) => CHECKS[f.kind] || f.kind },
    { label: "Atoms", text: true, value: (f) => f.atoms.join(", ") },
    { label: "Found", number: true, digits: 2, value: (f) => f.value },
    { label: "Ideal", number: true, digits: 2, value: (f) => f.ideal },
  ], stereochemistry.worst, (row, fault) => {
    if (fault.residues.length) activatable(row, () => selectResidues(fault.residues));
  });
}

function drawDepths() {
  if (!data.alignments) return;
  fillTable(byId("depths"), [
    { label: "Chain", value: (a) => a.chain },
    { label: "Sequences", number: true, value: (a) => a.rows },
    { label: "Paired", number: true, value: (a) => a.paired },
    { label: "Species", number: true, value: (a) => a.species },
    { label: "Covered", number: true, title: "columns with another residue than the query's own",
      value: (a) => `${Math.round((100 * a.coverage.filter((v) => v > 1).length) / a.coverage.length)} %` },
  ], data.alignments);
}

function drawRun() {
  byId("run").replaceChildren(...data.run.flatMap(([label, text]) =>
    [make("dt", {}, label), make("dd", { className: label === "Command" ? "code" : "" }, text)]));
}

function drawPicked() {
  const { selection } = state;
  if (!selection) {
    byId("picked").replaceChildren();
    return;
  }
  const part = (colour, text) => make("span", {}, make("i", { style: `background:${colour}` }), text);
  const named = (side) => {
    const all = [...side.residues].sort((a, b) => a - b);
    const ends = all.length === 1 ? residueName(all[0])
      : `${residueName(all[0])} \u2026 ${residueName(all[all.length - 1])}`;
    return `${ends} (${all.length})`;
  };
  const parts = [part(COLOURS.row, named(selection.rows))];
  if (!selection.same) parts.push(part(COLOURS.column, named(selection.columns)));
  if (selection.box && pae.shownModel === state.model) {
    const back = meanError({ rows: selection.box.columns, columns: selection.box.rows });
    const word = selection.pair && tokens.step === 1 ? "PAE" : "mean PAE";
    parts.push(make("b", {}, `${word} ${shown(meanError(selection.box), 1)} \u00c5` +
      (selection.same ? "" : `, the other way ${shown(back, 1)} \u00c5`)));
  }
  parts.push(make("button", { type: "button", id: "clear", onclick: clearSelection }, "Clear"));
  byId("picked").replaceChildren(...parts);
}
