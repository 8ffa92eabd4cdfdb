"use strict";
// What readers do with a chart: open a setting, reset a zoom, go from point to point by keyboard, read its figures in a
// table, and print it. `charts` maps the name of a chart to what it shows.
window.ChartTools = (rows, escape, redraw) => {
  const DOUBLE = 300; // milliseconds within which a second click makes a double click
  const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: -1, ArrowDown: 1 };
  const open = (row) => { if (row.page) location.href = `settings/${encodeURIComponent(row.page)}`; };
  const chartOf = (id) => document.getElementById(`chart-${id}`);

  // A click opens a setting, unless a second one follows, which Plotly takes as a wish to reset the chart.
  function clicks(chart) {
    let waiting, last = -Infinity;
    chart.on("plotly_click", ({ points: [point], event }) => {
      clearTimeout(waiting);
      const again = event.timeStamp - last < DOUBLE;
      last = event.timeStamp;
      if (!again && point.customdata !== undefined) waiting = setTimeout(() => open(rows[point.customdata]), DOUBLE + 20);
    });
    chart.on("plotly_doubleclick", () => { clearTimeout(waiting); Plotly.relayout(chart, structuredClone(chart.home)); });
    chart.addEventListener("mousedown", ({ detail }) => { if (detail > 1) clearTimeout(waiting); }, true);
  }

  // The points of a chart from left to right, each as Plotly names it.
  function ordered(chart) {
    const points = chart.data.flatMap(({ mode, x, y, customdata }, curveNumber) => (mode === "markers" ? x.map((value, pointNumber) => ({ curveNumber, pointNumber, x: value, y: y[pointNumber], row: rows[customdata[pointNumber]] })) : []));
    return points.sort((a, b) => a.x - b.x || b.y - a.y);
  }

  function keys(chart, told) {
    let place = -1;
    const show = (points) => {
      const { curveNumber, pointNumber, row } = points[place];
      Plotly.Fx.hover(chart, [{ curveNumber, pointNumber }]);
      told.textContent = `${row.shown.setting}: top-1 ${row.shown.top1} %, size ${row.shown.compression_ratio}, MACs ${row.shown.macs_ratio}, latency ${row.shown.latency_speedup}`;
    };
    chart.addEventListener("keydown", (event) => {
      const points = ordered(chart), step = STEPS[event.key];
      if (event.key === "Enter" && points[place]) open(points[place].row);
      else if (event.key === "Escape") { place = -1; Plotly.Fx.unhover(chart); told.textContent = ""; } else if (step && points.length) {
        place = place < 0 && step < 0 ? points.length - 1 : (place + step + points.length) % points.length;
        show(points);
        event.preventDefault();
      }
    });
    chart.addEventListener("blur", () => { place = -1; Plotly.Fx.unhover(chart); });
  }

  // The figures of a chart as a table, made when it is opened.
  function fill(details, chart, [x, y]) {
    const body = ordered(chart).map(({ row, x: across, y: up }) => {
      const name = escape(row.shown.setting).replaceAll(")+", ")+<wbr>");
      const cell = row.page ? `<a href="settings/${encodeURIComponent(row.page)}">${name}</a>` : name;
      return `<tr><th scope="row">${cell}</th><td class="number">${across.toFixed(2)}×</td><td class="number">${up.toFixed(2)}${y === "latency" ? "×" : ""}</td></tr>`;
    });
    details.querySelector("table").innerHTML = `<thead><tr><th scope="col">setting</th><th scope="col" class="number">${x}</th><th scope="col" class="number">${y}</th></tr></thead><tbody>${body.join("")}</tbody>`;
  }

  function attach(id) {
    const chart = chartOf(id), figure = chart.closest("figure");
    clicks(chart);
    keys(chart, figure.querySelector(".told"));
    const details = figure.querySelector("details");
    details.addEventListener("toggle", () => { if (details.open) fill(details, chart, chart.axes); });
    const button = figure.querySelector("button.print");
    button.hidden = window !== top; // frames of viewers, such as MLflow's, may not print
    button.addEventListener("click", () => { only = figure; print(); });
  }

  function update(id) {
    const details = chartOf(id).closest("figure").querySelector("details");
    if (details.open) fill(details, chartOf(id), chartOf(id).axes);
  }

  // Printing --------------------------------------------------------------------------------------------------------

  // A chart alone takes a page across; all of them, with the rest of the page, one below the other. On paper all is light.
  let only = null, theme;
  const root = document.documentElement;

  function enter() {
    if (root.classList.contains("paper")) return;
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    root.classList.add("paper");
    root.classList.toggle("one-chart", Boolean(only));
    if (only) only.classList.add("printed");
    redraw(only ? { width: 900, height: 500 } : { width: 690, height: 380 });
  }

  function leave() {
    if (!root.classList.contains("paper")) return;
    root.classList.remove("paper", "one-chart");
    if (only) only.classList.remove("printed");
    only = null;
    root.dataset.theme = theme;
    redraw(null);
  }

  addEventListener("beforeprint", enter);
  addEventListener("afterprint", leave);
  return { attach, update };
};
