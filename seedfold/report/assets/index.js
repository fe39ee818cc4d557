// The sortable, filterable table of a batch.
const COLUMNS = [
  { key: "name", label: "Name" },
  { key: "status", label: "Status" },
  { key: "ranking_score", label: "Ranking score", digits: 3 },
  { key: "ptm", label: "pTM", digits: 2 },
  { key: "iptm", label: "ipTM", digits: 2 },
  { key: "plddt", label: "pLDDT", digits: 1 },
  { key: "clash", label: "Clash" },
  { key: "n_chain", label: "Chains", digits: 0 },
  { key: "n_token", label: "Tokens", digits: 0 },
  { key: "seconds", label: "Seconds", digits: 1 },
  { key: "reason", label: "Reason", text: true },
].filter((c) => data.rows.some((r) => r[c.key] !== null && r[c.key] !== undefined));
const order = { key: null, descending: false };

function compare(a, b) {
  const [x, y] = [a[order.key], b[order.key]];
  const [noX, noY] = [x, y].map((v) => v === null || v === undefined);
  if (noX || noY) return noX - noY;
  const sign = order.descending ? -1 : 1;
  return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
}

function cell(column, row) {
  if (column.key === "name" && row.page) {
    return make("a", { href: row.page.split("/").map(encodeURIComponent).join("/") }, row.name);
  }
  return row[column.key];
}

function drawRows() {
  const words = byId("filter").value.toLowerCase();
  const rows = data.rows.filter((r) =>
    `${r.name} ${r.status} ${r.reason || ""}`.toLowerCase().includes(words));
  if (order.key) rows.sort(compare);
  fillTable(byId("rows"), COLUMNS.map((c) => ({
    label: c.label, number: c.digits !== undefined, digits: c.digits, text: c.text,
    value: (row) => cell(c, row),
    mark: (row) => (c.key === "status" && ["failed", "interrupted"].includes(row.status)) ||
      (c.key === "clash" && row.clash) ? "bad" : "",
  })), rows);
  byId("rows").querySelectorAll("th").forEach((head, i) => {
    const column = COLUMNS[i];
    if (order.key === column.key) {
      head.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
    }
    activatable(head, () => {
      const again = order.key === column.key;
      order.descending = again ? !order.descending : column.digits !== undefined;
      order.key = column.key;
      drawRows();
    });
  });
  byId("count").textContent = `${rows.length} of ${data.rows.length}`;
}

byId("name").textContent = data.title;
showNotes();
byId("about").textContent = [data.model && `model ${data.model}`,
  data.version && `SeedFold ${data.version}`].filter(Boolean).join(", ");
byId("filter").addEventListener("input", drawRows);
drawRows();
document.documentElement.dataset.ready = "yes";
window.seedfold = { data };
