// Shared by the page and the index: data, elements, numbers, theme. Text is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.map((c) => (c instanceof Node ? c : String(c))));
  return node;
}

function shown(value, digits) {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" && digits !== undefined ? value.toFixed(digits) : String(value);
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function fillTable(table, columns, rows, onRow) {
  const head = make("tr", {}, ...columns.map((c) =>
    make("th", { className: c.number ? "number" : "", title: c.title || "" }, c.label)));
  const body = rows.map((row, i) => {
    const cells = columns.map((c) => {
      const value = c.value(row, i);
      const kind = [c.number ? "number" : "", c.text ? "text" : "", c.mark ? c.mark(row) : ""];
      return make("td", { className: kind.join(" ").trim() },
        value instanceof Node ? value : shown(value, c.digits));
    });
    const line = make("tr", {}, ...cells);
    if (onRow) onRow(line, row, i);
    return line;
  });
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

function activatable(line, action) {
  line.tabIndex = 0;
  line.addEventListener("click", action);
  line.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      action();
    }
  });
}

function showNotes() {
  byId("notes").hidden = data.notes.length === 0;
  byId("notes").classList.toggle("alarm", data.untrained);
  byId("notes").replaceChildren(...data.notes.map((note) => {
    const [mark, ...rest] = note.split(";");
    return make("p", {}, make("strong", {}, mark), rest.length ? `;${rest.join(";")}` : "");
  }));
}

const themeListeners = [];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  themeListeners.forEach((listener) => listener());
}
const darkWanted = matchMedia("(prefers-color-scheme: dark)");
setTheme(darkWanted.matches ? "dark" : "light");
darkWanted.addEventListener("change", () => setTheme(darkWanted.matches ? "dark" : "light"));
byId("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
