"use strict";
// Draws the table (DataTables) and the charts (Plotly) of the figures in #data, and filters both.
(() => {
  const embedded = document.getElementById("data");
  if (!embedded) return;
  const data = JSON.parse(embedded.textContent);
  const rows = data.task.map((task, index) => {
    const pick = (lists) => Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, list[index]]));
    const { method, dense, page, error, failed } = pick({ ...data, columns: [], tasks: [], fronts: [] });
    return { task: data.tasks[task], method, dense, page, error, failed, value: pick(data.values), shown: pick(data.shown) };
  });

  const FILTERS = { dataset: "Dataset", model: "Model", weights: "Weights" };
  const ALWAYS = ["dataset", "model"];
  const COLOURS = 8;
  const SYMBOLS = {
    circle: "M5 1a4 4 0 1 0 .01 0z",
    square: "M1.5 1.5h7v7h-7z",
    diamond: "M5 0l5 5-5 5-5-5z",
    "triangle-up": "M5 1l5 8H0z",
    cross: "M3.5 0h3v3.5H10v3H6.5V10h-3V6.5H0v-3h3.5z",
    "triangle-down": "M0 1h10L5 9z",
    pentagon: "M5 0l5 3.8-1.9 6H1.9L0 3.8z",
  };
  const TITLES = { compression_ratio: "size", macs_ratio: "MACs", latency_speedup: "latency" };
  const FRONTS_DRAWN = 6;
  const KEPT = 0.85; // of the dense network's top-1: settings that keep less lie below the charts as they open
  const names = [...new Set(rows.filter((row) => !row.dense).map((row) => row.method))].sort();
  const symbols = Object.keys(SYMBOLS);
  const style = Object.fromEntries(names.map((name, index) => [
    name, { colour: `--c${index % COLOURS}`, symbol: symbols[index % symbols.length] },
  ]));
  const chosen = new Set();
  const selects = {};

  const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const inTask = (task) => Object.entries(selects).every(([field, { value }]) => !value || String(task[field]) === value);
  const tasksShown = () => data.tasks.filter(inTask);
  const isChosen = (row) => inTask(row.task) && (!chosen.size || chosen.has(row.method));
  const isNarrowed = () => chosen.size > 0 || ask.isAsked();
  const ask = Ask(data, escape, (row) => link(row, true));

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
      const { colour, symbol } = style[name];
      const item = document.createElement("li");
      item.innerHTML = `<button type="button" aria-pressed="false"><svg viewBox="0 0 10 10" aria-hidden="true">` +
        `<path d="${SYMBOLS[symbol]}" fill="var(${colour})"/></svg>${escape(name)}</button>`;
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
    const gains = Object.entries(data.fronts).filter(([, front]) => row.value[front]).map(([gain]) => TITLES[gain]);
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

  // Plotly knows no CSS variables: ask for the colours as they are now.
  function colour(variable) {
    const probe = document.createElement("i");
    probe.style.color = `var(${variable})`;
    document.body.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  const TICKS = {
    fine: [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5],
    middle: [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8],
    coarse: Array.from({ length: 20 }, (_, power) => 2 ** (power - 6)),
  };

  // Logarithmic, and never so narrow that noise looks like a gain.
  function gainAxis(title, values) {
    const low = Math.min(1, ...values), high = Math.max(1, ...values);
    const [from, to] = high / low < 1.25 ? [Math.min(low, 0.85), Math.max(high, 1.2)] : [low, high];
    const span = to / from;
    const pad = Math.max(0.06 * Math.log10(span), 0.01);
    const ticks = TICKS[span < 2.5 ? "fine" : span < 8 ? "middle" : "coarse"];
    return {
      type: "log", title: { text: title, standoff: 8 }, range: [Math.log10(from) - pad, Math.log10(to) + pad],
      tickvals: ticks, ticktext: ticks.map((tick) => `${tick}×`), zeroline: false,
    };
  }

  function hover(row, several) {
    const lines = [`<b>${escape(row.shown.setting)}</b>`, `top-1 ${escape(row.shown.top1)} %`];
    for (const [name, title] of Object.entries(TITLES)) lines.push(`${title} ${escape(row.shown[name])}`);
    if (several) lines.push(escape(row.task.title));
    return lines.join("<br>");
  }

  function errors(points, name, scale, palette) {
    const spread = points.map((row) => scale * (row.value[name] ?? 0));
    return { type: "data", array: spread, visible: spread.some(Boolean), thickness: 1, width: 0, color: palette.front };
  }

  function scatter(points, x, y, several, palette) {
    const isNoisy = (row) => [x.gain, y.gain].includes("latency_speedup") && row.value.latency_noisy;
    const groups = Map.groupBy(points, (row) => (row.dense ? "" : row.method));
    return [...groups].map(([name, group]) => {
      const look = style[name];
      const [xs, ys] = [x, y].map((axis) => group.map(axis.of));
      return {
        type: "scatter", mode: "markers", x: xs, y: ys, name: name || "dense",
        customdata: group.map((row) => row.page), text: group.map((row) => hover(row, several)),
        hovertemplate: "%{text}<extra></extra>",
        marker: look
          ? { color: colour(look.colour), symbol: group.map((row) => look.symbol + (isNoisy(row) ? "-open" : "")), size: look.symbol.startsWith("triangle") ? 11 : 9, opacity: 0.85, line: { width: 1, color: palette.paper } }
          : { color: palette.text, symbol: "star", size: 13, line: { width: 1, color: palette.paper } },
        ...(x.error && !several && { error_x: errors(group, x.error, 1, palette) }),
        ...(y.error && !several && { error_y: errors(group, y.error, y.scale, palette) }),
      };
    });
  }

  function fronts(tasks, gain, y, palette) {
    if (tasks.length > FRONTS_DRAWN) return [];
    return tasks.map((task) => {
      const points = rows.filter((row) => row.task === task && row.value[data.fronts[gain]]);
      points.sort((a, b) => a.value[gain] - b.value[gain]);
      return {
        type: "scatter", mode: "lines", x: points.map((row) => row.value[gain]), y: points.map(y.of), hoverinfo: "skip",
        line: { shape: "vh", width: 1.5, color: palette.front },
      };
    });
  }

  function layout(xaxis, yaxis, palette, extra) {
    const grid = { gridcolor: palette.line, linecolor: palette.line, tickcolor: palette.line, fixedrange: narrow.matches };
    return {
      margin: { l: 56, r: 12, t: 10, b: 46 }, showlegend: false, hovermode: "closest",
      dragmode: narrow.matches ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: palette.quiet },
      hoverlabel: { bgcolor: palette.paper, bordercolor: palette.line, font: { color: palette.text }, align: "left" },
      xaxis: { ...grid, ...xaxis }, yaxis: { ...grid, automargin: true, ...yaxis }, ...extra,
    };
  }

  const narrow = matchMedia("(max-width: 640px)");

  function dashed(x0, y0, x1, y1, palette) {
    return { type: "line", x0, y0, x1, y1, layer: "below", line: { dash: "dot", width: 1, color: palette.quiet } };
  }

  function draw(id, traces, shape) {
    const chart = document.getElementById(`chart-${id}`);
    const first = !chart.data;
    Plotly.react(chart, traces, shape, { displayModeBar: false, responsive: true });
    if (first) chart.on("plotly_click", ({ points: [point] }) => {
      if (point.customdata) location.href = `settings/${encodeURIComponent(point.customdata)}`;
    });
    chart.setAttribute("aria-label", `Scatter chart of ${plural(traces.reduce((count, trace) => count +
      (trace.mode === "markers" ? trace.x.length : 0), 0), "setting")}; the table below has every figure.`);
  }

  function drawCharts(shown) {
    const tasks = tasksShown();
    const several = tasks.length > 1;
    const palette = Object.fromEntries(["text", "quiet", "line", "paper", "front"].map((name) => [name, colour(`--${name}`)]));
    const dense = rows.filter((row) => row.dense && tasks.includes(row.task));
    const points = [...shown.filter((row) => !row.dense), ...dense].filter((row) => row.value.seeds);
    const accuracy = several
      ? { of: (row) => -100 * row.value.top1_drop, title: "top-1 gained, points" }
      : { of: (row) => 100 * row.value.top1, title: "top-1 %", error: "top1_ci95", scale: 100 };
    const heights = points.map((row) => [accuracy.of(row), several ? 100 * (KEPT - 1) : 100 * KEPT * (row.value.top1 + row.value.top1_drop)])
      .filter((pair) => pair.every(Number.isFinite));
    const floor = Math.min(...heights.map(([, least]) => least));
    const seen = heights.map(([height]) => height).filter((height) => height >= floor);
    const below = heights.length - seen.length;
    const span = Math.max(...seen) - Math.min(...seen);
    // The fronts are those of all settings, and may lead far below what is shown.
    const margin = Math.max(0.08 * span, ...points.map((row) => (several ? 0 : 100 * (row.value.top1_ci95 ?? 0))));
    const range = (below || isNarrowed()) && seen.length ? [Math.min(...seen) - margin, Math.max(...seen) + margin] : undefined;
    const known = (...needed) => points.filter((row) => needed.every((name) => row.value[name] !== null));
    const ends = (x) => (row) => [-1, 1].map((side) => x.of(row) + side * (several ? 0 : row.value[x.error] ?? 0)).filter((end) => end > 0);
    for (const [gain, title] of Object.entries(TITLES)) {
      const here = known(gain, "top1", "top1_drop");
      const x = { gain, of: (row) => row.value[gain], error: gain === "latency_speedup" && `${gain}_ci95` };
      draw(gain, [...fronts(tasks, gain, accuracy, palette), ...scatter(here, x, accuracy, several, palette)], layout(
        gainAxis(`${title}, gain over dense`, here.flatMap(ends(x))),
        { title: { text: accuracy.title, standoff: 8 }, zeroline: false, range }, palette,
      ));
    }
    const here = known("macs_ratio", "latency_speedup");
    const [x, y] = [{ of: (row) => row.value.macs_ratio }, { gain: "latency_speedup", of: (row) => row.value.latency_speedup, error: "latency_speedup_ci95", scale: 1 }];
    draw("promise", scatter(here, x, y, several, palette), layout(
      gainAxis("MACs, gain over dense", here.map(x.of)), gainAxis("latency, gain over dense", here.flatMap(ends(y))), palette,
      { shapes: [dashed(0.1, 0.1, 1000, 1000, palette)] },
    ));
    const missing = several && tasks.length > FRONTS_DRAWN ? ` Fronts are drawn for up to ${FRONTS_DRAWN} tasks.` : ` Lines: the Pareto front${isNarrowed() ? " of all settings" : ""}.`;
    const hidden = below ? ` ${plural(below, "setting")} lower than ${KEPT} of its top-1: a double click shows everything.` : "";
    const noisy = points.some((row) => row.value.latency_noisy) ? " Hollow: a noisy timing." : "";
    document.getElementById("key").textContent = `★ the dense network.${missing}${noisy} Choose a point to see its setting.${hidden}`;
  }

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
    for (const each of points) each.hidden = !tasks.includes(data.tasks[each.dataset.task]);
    const narrowed = isNarrowed();
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
  function show() {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawCharts(table.rows({ search: "applied" }).data().toArray()), 60);
  }
  refresh();
  // The table is there at once; the charts when Plotly, which is large and comes last, has loaded.
  addEventListener("load", () => { table.on("search", show); show(); });
  document.documentElement.addEventListener("themechange", show);
  narrow.addEventListener("change", show);
  // Not the link that skips to the content.
  addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); refresh(); } });
  for (const across of document.querySelectorAll("table.across")) {
    new DataTable(across, { order: [], paging: false, searching: false, info: false, autoWidth: false });
  }
})();
