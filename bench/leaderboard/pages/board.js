"use strict";
// Makes the table (DataTables) of the figures in #data, and filters it together with the charts.
(() => {
  const embedded = document.getElementById("data");
  if (!embedded) return;
  const data = JSON.parse(embedded.textContent);
  const rows = data.task.map((task, index) => {
    const pick = (lists) => Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, list[index]]));
    const { method, dense, page, error, failed, curve } = pick({ ...data, columns: [], tasks: [], fronts: [], styles: [] });
    return { index, task: data.tasks[task], method, dense, page, error, failed, curve, value: pick(data.values), shown: pick(data.shown) };
  });

  const FILTERS = { dataset: "Dataset", model: "Model", weights: "Weights" };
  const ALWAYS = ["dataset", "model"];
  const names = [...new Set(rows.filter((row) => !row.dense).map((row) => row.method))].sort();
  const chosen = new Set();
  const selects = {};

  const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const inTask = (task) => Object.entries(selects).every(([field, { value }]) => !value || String(task[field]) === value);
  const tasksShown = () => data.tasks.filter(inTask);
  const isChosen = (row) => inTask(row.task) && (!chosen.size || chosen.has(row.method));
  const isNarrowed = () => chosen.size > 0 || ask.isAsked();
  const ask = Ask(data, escape, (row) => link(row, true));
  const charts = Charts(data, rows, escape);

  // Filters ---------------------------------------------------------------------------------------------------------

  function makeSelect(field, title) {
    const values = [...new Set(data.tasks.map((task) => task[field]))];
    values.sort((a, b) => (a < b ? -1 : 1));
    if (values.length < 2 && !ALWAYS.includes(field)) return;
    const label = document.createElement("label");
    label.append(title);
    const select = document.createElement("select");
    select.name = field;
    select.append(new Option("All", ""), ...values.map((value) => new Option(String(value), value)));
    if (values.length === 1) select.selectedIndex = 1;
    select.addEventListener("change", () => { relax(field); refresh(); });
    label.append(select);
    document.getElementById("filters").append(label);
    selects[field] = select;
  }

  // A choice that the others leave nothing for goes before them.
  function relax(kept) {
    for (const field of Object.keys(selects).reverse()) {
      if (tasksShown().length) return;
      if (field !== kept) selects[field].value = "";
    }
  }

  function makeChips() {
    const list = document.getElementById("methods");
    for (const name of names) {
      const { light, dark, outline } = data.styles[name];
      const item = document.createElement("li");
      item.innerHTML = `<button type="button" aria-pressed="false"><svg viewBox="0 0 10 10" aria-hidden="true">` +
        `<path d="${outline}" style="fill: light-dark(${light}, ${dark})"/></svg>${escape(name)}</button>`;
      const chip = item.firstChild;
      chip.dataset.method = name;
      chip.addEventListener("click", () => {
        if (!chosen.delete(name)) chosen.add(name);
        refresh();
      });
      list.append(item);
    }
  }

  // The address holds what is filtered, so that a view can be sent to someone.
  function readAddress() {
    const wanted = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    ask.read(wanted);
    chosen.clear();
    for (const name of wanted.getAll("method")) if (names.includes(name)) chosen.add(name);
    if (Object.keys(selects).some((field) => wanted.has(field))) {
      for (const [field, select] of Object.entries(selects)) select.value = wanted.get(field) ?? "";
    } else {
      const counts = data.tasks.map((task) => rows.filter((row) => row.task === task).length);
      const largest = data.tasks[counts.indexOf(Math.max(...counts))];
      for (const [field, select] of Object.entries(selects)) select.value = largest[field];
    }
    relax();
  }

  function writeAddress() {
    const wanted = new URLSearchParams();
    for (const [field, { value }] of Object.entries(selects)) wanted.append(field, value);
    for (const name of chosen) wanted.append("method", name);
    ask.write(wanted);
    try { history.replaceState(null, "", `#${wanted}`); } catch { /* in a frame that has no address */ }
  }

  // The table -------------------------------------------------------------------------------------------------------

  // Columns with intervals, in which figures without one must line up too.
  const spreads = new Set(data.columns.map(({ name }) => name).filter((name) => data.shown[name].some((text) => text.includes("±"))));

  function link(row, bare) {
    const name = escape(row.shown.setting).replaceAll(")+", ")+<wbr>");
    if (bare) return row.page ? `<a href="settings/${encodeURIComponent(row.page)}">${name}</a>` : name;
    const count = row.value.seeds ? `${plural(row.failed, "seed")} failed` : "failed";
    const tag = row.failed ? ` <span class="tag" title="${escape(row.error ?? "")}">${count}</span>` : "";
    return (row.page ? `<a href="settings/${encodeURIComponent(row.page)}">${name}</a>` : name) + tag;
  }

  function onFronts(row) {
    const gains = Object.entries(data.fronts).filter(([, front]) => row.value[front]).map(([gain]) => charts.TITLES[gain]);
    return `on the front of top-1 and ${gains.join(" and ")}`;
  }

  function cell(column, row) {
    if (column.name === "setting") return link(row);
    if (column.name === "front") return row.value.front ? `<span class="front" title="${onFronts(row)}">●</span><span class="hidden">yes</span>` : "";
    const [figure, spread] = row.shown[column.name].split(" ±");
    const aside = spread ? `<small>±${escape(spread)}</small>` : spreads.has(column.name) ? "<small></small>" : "";
    return `${escape(figure)} ${aside}`;
  }

  function makeTable() {
    const columns = data.columns.map((column) => ({
      name: column.name,
      title: column.name === "front" ? `<span class="hidden">Pareto front</span><span aria-hidden="true">●</span>` : column.header,
      ariaTitle: column.header || "Pareto front",
      className: column.numeric ? "number" : column.name,
      type: column.name === "setting" ? "string" : "num",
      orderSequence: column.name === "setting" ? ["asc", "desc"] : ["desc", "asc"],
      data: null,
      render: (_, kind, row) => {
        if (kind === "display") return cell(column, row);
        if (kind === "filter") return escape(row.shown[column.name]); // which DataTables reads as HTML
        if (column.name === "setting") return row.shown[column.name];
        return row.value[column.name] ?? -Infinity;
      },
    }));
    const ofTask = Object.entries(FILTERS).map(([field, title]) => ({
      name: field,
      title,
      className: "task-field",
      data: null,
      render: (_, kind, row) => (kind === "sort" ? row.task[field] : escape(row.task[field])),
    }));
    columns.splice(2, 0, ...ofTask);
    return new DataTable("#board", {
      data: rows,
      columns,
      order: [],
      autoWidth: false,
      deferRender: true,
      pageLength: 25,
      lengthMenu: [10, 25, 100, { label: "all", value: -1 }],
      layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
      language: {
        search: "Search",
        lengthMenu: "_MENU_ a page",
        info: "_START_ to _END_ of _TOTAL_",
        infoEmpty: "",
        infoFiltered: "",
        zeroRecords: "Nothing matches; clear the search or a filter.",
      },
    });
  }

  // The charts ------------------------------------------------------------------------------------------------------

  const narrow = matchMedia("(max-width: 640px)");
  const everything = document.getElementById("everything");
  const tools = ChartTools(rows, escape, (paper) => { onPaper = paper; drawCharts(); });
  let shown = [], onPaper = null;

  function draw(id, { traces, shape, labels, axes }) {
    const chart = document.getElementById(`chart-${id}`);
    const first = !chart.data;
    chart.axes = axes;
    chart.home = { "xaxis.range": shape.xaxis.range, ...(shape.yaxis.range ? { "yaxis.range": shape.yaxis.range } : { "yaxis.autorange": true }) };
    const size = onPaper ?? { autosize: true };
    Plotly.react(chart, traces, { ...shape, ...size }, { displayModeBar: false, responsive: true, doubleClick: false });
    if (labels) Plotly.relayout(chart, { annotations: charts.annotate(chart, labels) });
    if (first) tools.attach(id); else tools.update(id);
    const count = traces.reduce((sum, { mode, x }) => sum + (mode === "markers" ? x.length : 0), 0);
    chart.setAttribute("aria-label", `Scatter chart of ${plural(count, "setting")}: ${axes.join(" and ")}. Arrow keys go from point to point, Enter opens the setting; the table below has the figures.`);
  }

  // One after the other, so that the first is seen while the others are drawn; on paper at once, before it is printed.
  let pending;
  function drawInTurn([[id, chart], ...rest]) {
    clearTimeout(pending);
    draw(id, chart);
    if (!rest.length) return;
    if (onPaper) drawInTurn(rest); else pending = setTimeout(() => drawInTurn(rest));
  }

  function drawCharts() {
    const tasks = tasksShown();
    const dense = rows.filter((row) => row.dense && tasks.includes(row.task));
    const points = [...shown.filter((row) => !row.dense), ...dense].filter((row) => row.value.seeds);
    const all = everything.getAttribute("aria-pressed") === "true";
    const composed = charts.compose({ tasks, points, several: tasks.length > 1, everything: all, paper: onPaper });
    drawInTurn(Object.entries(composed.charts));
    everything.hidden = !composed.low;
    const kept = `less than ${100 * charts.KEPT}% of the dense network's top-1`;
    everything.textContent = all ? `Hide what keeps ${kept}` : `Show everything: ${plural(composed.low, "setting")} with ${kept}`;
    const many = tasks.length > charts.FRONTS_DRAWN;
    document.getElementById("key").textContent = "★ the dense network. Grey: controls. A pipeline has the colour of its first method. Thin lines join the settings of a method that differ in strength alone." +
      (many ? ` Fronts are drawn for up to ${charts.FRONTS_DRAWN} tasks.` : ` Steps: the Pareto front${isNarrowed() ? " of all settings" : ""}.`) +
      (points.some((row) => row.value.latency_noisy) ? " Hollow: a noisy timing." : "") + " Click a point to open its setting; drag to zoom, double click to go back.";
  }

  everything.addEventListener("click", () => {
    everything.setAttribute("aria-pressed", everything.getAttribute("aria-pressed") !== "true");
    drawCharts();
  });

  // All together ----------------------------------------------------------------------------------------------------

  let table, passes, order = "";

  // The order that is asked for, until a header is clicked.
  function reorder() {
    if (order === ask.order()) return;
    order = ask.order();
    table.clear().rows.add(ask.ordered(rows)).order([]);
  }

  function refresh() {
    const tasks = tasksShown();
    const meets = ask.filter();
    passes = (row) => isChosen(row) && meets(row);
    ask.show();
    document.getElementById("answer").innerHTML = ask.answer(tasks, rows, chosen);
    for (const chip of document.querySelectorAll("#methods button")) {
      chip.setAttribute("aria-pressed", chosen.has(chip.dataset.method));
    }
    const single = tasks.length === 1;
    document.getElementById("task").textContent = single ? tasks[0].title
      : `${tasks.length} tasks. Only within a task do figures rank against each other.`;
    const points = [...document.querySelectorAll("#points [data-task]")];
    const verdicts = [...document.querySelectorAll("#verdict [data-task]")];
    for (const each of [...points, ...verdicts]) each.hidden = !tasks.includes(data.tasks[each.dataset.task]);
    const narrowed = isNarrowed();
    document.getElementById("verdict").classList.toggle("several", !single);
    if (points.length) {
      document.getElementById("points").hidden = narrowed || points.every((each) => each.hidden);
      document.getElementById("left-out").hidden = !narrowed;
    }
    for (const field of Object.keys(FILTERS)) {
      table.column(`${field}:name`).visible(new Set(tasks.map((task) => task[field])).size > 1, false);
    }
    writeAddress();
    reorder();
    table.draw();
  }

  for (const [field, title] of Object.entries(FILTERS)) makeSelect(field, title);
  makeChips();
  ask.make(document.getElementById("ask"), rows, () => refresh());
  readAddress();
  table = makeTable();
  table.search.fixed("filters", (_, row) => passes(row));
  let waiting;
  function showNow() {
    shown = table.rows({ search: "applied" }).data().toArray();
    drawCharts();
  }
  function show() {
    clearTimeout(waiting);
    waiting = setTimeout(showNow, 60);
  }
  refresh();
  // The table is there at once; the charts when Plotly, which is large and comes last, has loaded.
  addEventListener("load", () => { table.on("search", show); showNow(); });
  document.documentElement.addEventListener("themechange", show);
  narrow.addEventListener("change", show);
  let resizing;
  addEventListener("resize", () => { clearTimeout(resizing); if (!onPaper) resizing = setTimeout(show, 200); });
  // Not the link that skips to the content.
  addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); refresh(); } });
  for (const across of document.querySelectorAll("table.across")) {
    new DataTable(across, { order: [], paging: false, searching: false, info: false, autoWidth: false });
  }
})();
