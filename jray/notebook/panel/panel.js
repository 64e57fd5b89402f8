// Draws the panel: asks for the window of rows it shows, applies what has changed, sends what the buttons say.
// Text enters the page as text only (textContent), never as markup.

const ROW = 28; // px, as in panel.css
const OVERSCAN = 20; // rows beyond what is in sight, on each side
const PATIENCE = 600; // ms without an answer after which the kernel is taken to be busy
const ANY = "*"; // the view that is shown before any has spoken
const TABS = [
  ["tasks", "Tasks"],
  ["actors", "Actors"],
  ["objects", "Objects"],
  ["nodes", "Nodes"],
  ["groups", "Placement groups"],
  ["logs", "Logs"],
];
const EMPTY = {
  tasks: "No tasks yet. What you call with .remote() appears here.",
  actors: "No actors.",
  objects: "No objects are held.",
  nodes: "No nodes.",
  groups: "No placement groups.",
  logs: "No task has written anything.",
};
const ORDER = ["failed", "cancelled", "finished", "running", "waiting"];
const NUMBERS = new Set(["count", "bytes", "seconds"]);
const BUSY = "queued until the cell ends — the kernel is busy; Interrupt (■) works at once";

/** What came for views that had not spoken yet, by panel: {state, listeners}. */
const presumed = new Map();

function applied(old, change) {
  const order = change.order ?? old.order ?? [];
  const known = { ...old.rows, ...change.rows };
  const rows = {};
  for (const key of order) rows[key] = known[key];
  return { ...old, ...change.fields, order, rows };
}

/** Collects the parts of changes to one view; `take` returns whether it is whole, and whether it fits. */
class Mirror {
  constructor() {
    this.state = {};
    this.revision = 0;
    this.rows = {};
  }
  take(message) {
    if (message.base !== this.revision && message.base !== 0) return "misfit";
    Object.assign(this.rows, message.change.rows);
    if (message.change.more) return "more";
    const old = message.base === 0 ? {} : this.state;
    this.state = applied(old, { ...message.change, rows: this.rows });
    this.rows = {};
    this.revision = message.revision;
    return "whole";
  }
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
}

function amount(value, kind) {
  if (kind === "bytes") return size(value);
  if (kind === "seconds") return duration(value);
  return typeof value === "number" ? value.toLocaleString("en") : String(value);
}

function statesBar(states) {
  const cell = element("div", "jray-panel-states");
  const total = ORDER.reduce((sum, state) => sum + (states[state] ?? 0), 0);
  const bar = element("span", "jray-panel-bar");
  const words = [];
  for (const state of ORDER) {
    const count = states[state];
    if (!count) continue;
    const part = element("span", `jray-panel-part jray-panel-${state}`);
    part.style.flexGrow = count / total;
    bar.append(part);
    words.push(total === 1 ? state : `${count.toLocaleString("en")} ${state}`);
  }
  bar.setAttribute("aria-hidden", "true");
  const text = element("span", "jray-panel-words", words.join(" · "));
  cell.title = words.join(", ");
  cell.append(bar, text);
  return cell;
}

function shareBar([used, total], unit) {
  const cell = element("div", "jray-panel-states");
  const bar = element("span", "jray-panel-bar");
  const part = element("span", "jray-panel-part jray-panel-used");
  part.style.flexGrow = total ? used / total : 0;
  const rest = element("span", "jray-panel-part");
  rest.style.flexGrow = total ? 1 - used / total : 1;
  bar.append(part, rest);
  bar.setAttribute("aria-hidden", "true");
  cell.append(bar, element("span", "jray-panel-words", `${amount(used, unit)} of ${amount(total, unit)}`));
  return cell;
}

function initialize({ model }) {
  const id = model.get("panel_id");
  const entry = { mirror: new Mirror(), listeners: new Set() };
  presumed.set(id, entry);
  const listen = (message) => {
    if (message?.type !== "change" || message.view !== ANY) return;
    if (entry.mirror.take(message) === "whole") for (const tell of entry.listeners) tell(entry.mirror.state);
  };
  model.on("msg:custom", listen);
  return () => {
    model.off("msg:custom", listen);
    presumed.delete(id);
  };
}

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const request = { tab: "tasks", by: "function", sort: "", descending: false, filter: "", offset: 0, count: 60 };
  const expanded = new Set();
  const mirror = new Mirror();
  let state = null;
  let selected = null; // key of the row that the keyboard is on
  let asking = null; // the action that wants to be confirmed
  let onScreen = false;
  let clicks = 0;
  let busyTimer = null;
  let askTimer = null;
  const pending = new Map(); // clicks without an answer

  const root = element("div", "jray-panel");
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "jray's cluster");

  // -- the parts --

  const head = element("div", "jray-panel-head");
  const tabs = element("div", "jray-panel-tabs");
  tabs.setAttribute("role", "tablist");
  const tabOf = {};
  for (const [name, title] of TABS) {
    const tab = element("button", "jray-panel-tab", title);
    tab.type = "button";
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => choose(name));
    tabOf[name] = tab;
    tabs.append(tab);
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const now = TABS.findIndex(([name]) => name === request.tab);
    const next = TABS[(now + step + TABS.length) % TABS.length][0];
    choose(next);
    tabOf[next].focus();
  });
  const by = element("select", "jray-panel-by");
  by.setAttribute("aria-label", "Count calls by");
  for (const [value, title] of [["function", "by function"], ["cell", "by cell"]]) {
    const option = element("option", "", title);
    option.value = value;
    by.append(option);
  }
  by.addEventListener("change", () => {
    request.by = by.value;
    expanded.clear();
    ask();
  });
  const filter = element("input", "jray-panel-filter");
  filter.type = "search";
  filter.placeholder = "Filter";
  filter.setAttribute("aria-label", "Filter rows");
  filter.addEventListener("input", () => {
    request.filter = filter.value;
    request.offset = 0;
    body.scrollTop = 0;
    clearTimeout(askTimer);
    askTimer = setTimeout(ask, 150);
  });
  const count = element("span", "jray-panel-count");
  head.append(tabs, by, filter, count);

  const ribbon = element("div", "jray-panel-ribbon");
  ribbon.setAttribute("role", "status");
  const busy = element("div", "jray-panel-busy");
  busy.setAttribute("role", "status");
  const confirm = element("div", "jray-panel-confirm");
  confirm.setAttribute("role", "alertdialog");
  const said = element("div", "jray-panel-said");
  said.setAttribute("role", "status");

  const table = element("div", "jray-panel-table");
  table.setAttribute("role", "table");
  const titles = element("div", "jray-panel-row jray-panel-titles");
  titles.setAttribute("role", "row");
  const body = element("div", "jray-panel-body");
  body.tabIndex = 0;
  body.setAttribute("aria-label", "Rows: arrow keys move, Enter opens, Delete asks to cancel, kill or free");
  const space = element("div", "jray-panel-space");
  space.setAttribute("role", "rowgroup");
  body.append(space);
  table.append(titles, body);
  const notes = element("div", "jray-panel-notes");
  root.append(head, ribbon, busy, confirm, table, said, notes);
  el.append(root);

  // -- what the kernel is told --

  function isVisible() {
    return onScreen && !document.hidden;
  }

  function ask(extra = {}) {
    model.send({ type: "view", view, visible: isVisible(), ...request, expanded: [...expanded], ...extra });
  }

  function choose(tab) {
    if (tab === request.tab) return;
    Object.assign(request, { tab, sort: "", descending: false, offset: 0 });
    expanded.clear();
    selected = asking = null;
    body.scrollTop = 0;
    expectAnswer();
    ask();
    draw();
  }

  function expectAnswer() {
    clearTimeout(busyTimer);
    busyTimer = setTimeout(() => {
      if (!state || state.tab !== request.tab) {
        busy.textContent = "The kernel is busy: this view follows when the cell ends.";
      }
    }, PATIENCE);
  }

  function act([verb, label, target]) {
    asking = null;
    const id = ++clicks;
    pending.set(id, label);
    model.send({ type: "act", view, id, verb, target });
    setTimeout(() => {
      if (pending.has(id)) say(`${label}: ${BUSY}`, "waits");
    }, PATIENCE);
    draw();
    body.focus();
  }

  function say(text, kind) {
    said.textContent = text;
    said.dataset.kind = kind;
  }

  // -- drawing --

  function grid(columns) {
    const widths = { text: "minmax(70px, 1fr)", states: "minmax(270px, 3fr)", share: "minmax(210px, 1.5fr)" };
    const wide = { line: "minmax(200px, 6fr)", error: "minmax(120px, 2fr)", name: "minmax(110px, 1.4fr)" };
    const tight = {
      cell: "minmax(56px, 0.8fr)",
      state: "minmax(64px, 0.6fr)",
      pid: "60px",
      total: "64px",
      duration: "84px",
      process: "minmax(150px, 1.2fr)",
    };
    const width = (column) => wide[column.key] ?? tight[column.key] ?? widths[column.kind] ?? "minmax(76px, 0.6fr)";
    return `${columns.map(width).join(" ")} 30px`;
  }

  function drawTitles(columns) {
    const kept = document.activeElement?.dataset?.column;
    titles.replaceChildren();
    titles.style.gridTemplateColumns = grid(columns);
    for (const column of columns) {
      const title = element("button", "jray-panel-title", column.title);
      title.type = "button";
      title.dataset.column = column.key;
      title.setAttribute("role", "columnheader");
      if (NUMBERS.has(column.kind)) title.classList.add("jray-panel-number");
      if (request.sort === column.key) {
        title.textContent += request.descending ? " ▾" : " ▴";
        title.setAttribute("aria-sort", request.descending ? "descending" : "ascending");
      }
      title.addEventListener("click", () => {
        // numbers: the largest first; once more: the other way; and once more: as they came
        const first = column.kind !== "text";
        if (request.sort !== column.key) Object.assign(request, { sort: column.key, descending: first });
        else if (request.descending === first) request.descending = !first;
        else Object.assign(request, { sort: "", descending: false });
        ask();
        drawTitles(columns);
      });
      titles.append(title);
      if (kept === column.key && root.contains(document.activeElement) === false) title.focus();
    }
    titles.append(element("span"));
  }

  function drawRow(key, row, columns, index) {
    const line = element("div", "jray-panel-row");
    line.setAttribute("role", "row");
    line.setAttribute("aria-rowindex", String(index + 2));
    line.style.top = `${index * ROW}px`;
    line.style.gridTemplateColumns = grid(columns);
    if (row.under) line.classList.add("jray-panel-under");
    if (key === selected) line.classList.add("jray-panel-selected");
    line.addEventListener("mousedown", () => {
      selected = key;
    });
    columns.forEach((column, place) => {
      const value = row.cells[column.key];
      const cell = element("div", "jray-panel-cell");
      cell.setAttribute("role", "cell");
      if (NUMBERS.has(column.kind)) cell.classList.add("jray-panel-number");
      if (column.key === "error" || column.key === "line") cell.classList.add("jray-panel-mono");
      if (column.key === "error" && row.cells.states?.failed) cell.classList.add("jray-panel-error");
      if (place === 0 && row.opens) {
        const isOpen = expanded.has(key);
        const opener = element("button", "jray-panel-opener", isOpen ? "▾" : "▸");
        opener.type = "button";
        opener.tabIndex = -1;
        opener.setAttribute("aria-expanded", String(isOpen));
        const under = request.tab === "logs" ? "last lines" : "single tasks";
        opener.setAttribute("aria-label", `${isOpen ? "Hide" : "Show"} ${under} of ${value}`);
        opener.addEventListener("click", () => open(key));
        cell.append(opener);
      }
      if (value === undefined || value === null) {
        // nothing to show
      } else if (column.kind === "states") cell.append(statesBar(value));
      else if (column.kind === "share") cell.append(shareBar(value, column.unit));
      else {
        const text = amount(value, column.kind);
        cell.append(element("span", "jray-panel-text", text));
        cell.title = text;
      }
      line.append(cell);
    });
    const tools = element("div", "jray-panel-tools");
    if (row.actions.length) {
      const button = element("button", "jray-panel-act", "✕");
      button.type = "button";
      button.tabIndex = -1;
      button.title = row.actions[0][1];
      button.setAttribute("aria-label", row.actions[0][1]);
      button.addEventListener("click", () => askFor(row.actions));
      tools.append(button);
    }
    line.append(tools);
    return line;
  }

  function open(key) {
    if (!expanded.delete(key)) expanded.add(key);
    ask();
    draw();
  }

  function askFor(actions) {
    asking = actions;
    drawConfirm();
    confirm.querySelector("button")?.focus();
  }

  function drawConfirm() {
    confirm.replaceChildren();
    if (!asking) return;
    for (const action of asking.slice(0, 4)) {
      const yes = element("button", "jray-panel-yes", action[1]);
      yes.type = "button";
      yes.addEventListener("click", () => act(action));
      confirm.append(yes);
    }
    const no = element("button", "jray-panel-no", "Keep");
    no.type = "button";
    no.addEventListener("click", () => {
      asking = null;
      drawConfirm();
      body.focus();
    });
    confirm.append(no, element("span", "", "This cannot be undone."));
  }

  let drawnColumns = "";

  function draw() {
    for (const [name] of TABS) {
      const isChosen = name === request.tab;
      tabOf[name].setAttribute("aria-selected", String(isChosen));
      tabOf[name].tabIndex = isChosen ? 0 : -1;
    }
    by.hidden = request.tab !== "tasks";
    drawConfirm();
    const shown = state && state.tab === request.tab ? state : null;
    ribbon.textContent = shown?.ribbon ?? "";
    root.classList.toggle("jray-panel-off", Boolean(shown?.ribbon));
    notes.textContent = (shown?.notes ?? []).join(" ");
    const columns = shown?.columns ?? [];
    const look = JSON.stringify([columns, request.sort, request.descending]);
    if (look !== drawnColumns) {
      drawnColumns = look;
      drawTitles(columns);
    }
    const total = shown?.total ?? 0;
    count.textContent = shown ? `${total.toLocaleString("en")} row${total === 1 ? "" : "s"}` : "";
    space.style.height = `${Math.max(1, total) * ROW}px`;
    const lines = [];
    if (shown) shown.order.forEach((key, n) => lines.push(drawRow(key, shown.rows[key], columns, shown.offset + n)));
    if (shown && !total) {
      const text = request.filter ? "Nothing matches the filter." : EMPTY[request.tab];
      lines.push(element("div", "jray-panel-empty", text));
    }
    space.replaceChildren(...lines);
  }

  // -- what the user does --

  body.addEventListener("scroll", () => {
    const first = Math.floor(body.scrollTop / ROW);
    const seen = Math.ceil(body.clientHeight / ROW);
    const isCovered =
      state && first >= state.offset && first + seen <= state.offset + Math.max(state.order.length, 1);
    const isAll = state && state.offset === 0 && state.order.length >= state.total;
    if (isCovered || isAll) return;
    clearTimeout(askTimer);
    askTimer = setTimeout(() => {
      request.offset = Math.max(0, first - OVERSCAN);
      request.count = Math.min(300, seen + 2 * OVERSCAN);
      ask();
    }, 60);
  });

  root.addEventListener("keydown", (event) => {
    event.stopPropagation(); // a notebook takes plain keys for commands
    if (event.key === "Escape" && asking) {
      asking = null;
      drawConfirm();
      body.focus();
      return;
    }
    if (event.target !== body || !state) return;
    const place = state.order.indexOf(selected);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const next = Math.min(state.order.length - 1, Math.max(0, place + (event.key === "ArrowDown" ? 1 : -1)));
      selected = state.order[next];
      const top = (state.offset + next) * ROW;
      if (top < body.scrollTop) body.scrollTop = top;
      else if (top + ROW > body.scrollTop + body.clientHeight) body.scrollTop = top + ROW - body.clientHeight;
      draw();
    } else if (place >= 0 && (event.key === "Enter" || event.key === " ") && state.rows[selected].opens) {
      open(selected);
    } else if (place >= 0 && event.key === "Delete" && state.rows[selected].actions.length) {
      askFor(state.rows[selected].actions);
    } else return;
    event.preventDefault();
  });

  // -- what the kernel says --

  const listen = (message) => {
    if (message?.view !== view) return;
    if (message.type === "got") pending.delete(message.id);
    else if (message.type === "done") {
      pending.delete(message.id);
      say(message.text, message.ok ? "done" : "failed");
    } else if (message.type === "change") {
      clearTimeout(busyTimer);
      busy.textContent = "";
      const outcome = mirror.take(message);
      if (outcome === "misfit") ask({ reset: true });
      if (outcome !== "whole") return;
      state = mirror.state;
      draw();
    }
  };
  const early = presumed.get(model.get("panel_id"));
  const listenEarly = (shown) => {
    if (mirror.revision) return; // the kernel knows this view by now
    state = shown;
    draw();
  };
  model.on("msg:custom", listen);
  early?.listeners.add(listenEarly);
  if (early?.mirror.revision) state = early.mirror.state;

  const watcher = new IntersectionObserver((entries) => {
    const now = entries.at(-1).isIntersecting;
    if (now === onScreen) return;
    onScreen = now;
    ask();
  });
  watcher.observe(root);
  const onHidden = () => ask();
  document.addEventListener("visibilitychange", onHidden);
  draw();

  return () => {
    watcher.disconnect();
    document.removeEventListener("visibilitychange", onHidden);
    model.off("msg:custom", listen);
    early?.listeners.delete(listenEarly);
    clearTimeout(busyTimer);
    clearTimeout(askTimer);
    model.send({ type: "gone", view });
  };
}

export { applied, Mirror };
export default { initialize, render };
