"use strict";
// The charts, drawn by Plotly: points with intervals, the curve of each method, the Pareto front with labels.
// `view` says what is drawn: { tasks, points, several, narrowed, everything, paper }; `paper` for printing.
window.Charts = (data, rows, escape) => {
  const TITLES = { compression_ratio: "size", macs_ratio: "MACs", latency_speedup: "latency" };
  const FRONTS_DRAWN = 6; // tasks
  const KEPT = 0.85; // of the dense network's top-1: settings that keep less are shown on demand
  const NAMED = 6; // methods in a legend on paper; the dense network and all others are two more entries
  const LONGEST_LABEL = 24;
  const narrow = matchMedia("(max-width: 640px)");

  // Plotly knows no CSS variables: ask for the colours as they are now.
  function colour(value) {
    const probe = document.createElement("i");
    probe.style.color = value;
    document.body.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  const isLow = (row) => row.value.top1 !== null && row.value.top1 < KEPT * (row.value.top1 + (row.value.top1_drop ?? 0));

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

  // A long interval may leave the chart; points never do.
  function heightAxis(title, points, y) {
    const heights = points.map(y.of);
    const [low, high] = [Math.min(...heights), Math.max(...heights)];
    const span = Math.max(high - low, 0.5);
    const ends = points.flatMap((row) => [-1, 1].map((side) => y.of(row) + (y.error ? side * y.scale * (row.value[y.error] ?? 0) : 0)));
    const [from, to] = [Math.max(Math.min(...ends), low - 0.12 * span), Math.min(Math.max(...ends), high + 0.12 * span)];
    const range = points.length ? [from - 0.06 * span, to + 0.1 * span] : undefined;
    return { title: { text: title, standoff: 8 }, zeroline: false, range };
  }

  function hover(row, several) {
    const lines = [`<b>${escape(row.shown.setting)}</b>`, `top-1 ${escape(row.shown.top1)} %`];
    for (const [name, title] of Object.entries(TITLES)) lines.push(`${title} ${escape(row.shown[name])}`);
    if (several) lines.push(escape(row.task.title));
    return lines.join("<br>");
  }

  function errors(points, name, scale, shade) {
    const spread = points.map((row) => scale * (row.value[name] ?? 0));
    return { type: "data", array: spread, visible: spread.some(Boolean), thickness: 1, width: 0, color: shade };
  }

  function look(name, named, palette) {
    if (!name) return { color: palette.text, symbol: "star", size: 13 };
    if (!named.has(name)) return { color: palette.front, symbol: "circle", size: 4 };
    const { light, dark, symbol } = data.styles[name];
    return { color: colour(`light-dark(${light}, ${dark})`), symbol, size: symbol.startsWith("triangle") ? 11 : 9 };
  }

  const isNoisy = (row, ...axes) => axes.some(({ gain }) => gain === "latency_speedup") && row.value.latency_noisy;

  // One trace for each method; on paper, one for all that the legend does not name.
  function scatter(points, x, y, view, palette) {
    const nameOf = (row) => (row.dense ? "" : view.named.has(row.method) ? row.method : "\0others");
    const groups = Map.groupBy(points, nameOf);
    return [...groups].map(([name, group]) => {
      group.sort((a, b) => isNoisy(a, x, y) - isNoisy(b, x, y)); // so that a legend shows a full marker
      const others = name === "\0others";
      const { color, symbol, size } = look(others ? "\0" : name, view.named, palette);
      const [xs, ys] = [x, y].map((axis) => group.map(axis.of));
      const counted = new Set(group.map((row) => row.method)).size;
      const bars = !view.several && !others;
      return {
        type: "scatter", mode: "markers", x: xs, y: ys,
        name: others ? `${counted} other method${counted === 1 ? "" : "s"}` : escape(name || "dense"),
        legendrank: others ? 1001 : name ? 1000 : 999, customdata: group.map((row) => row.index), text: group.map((row) => hover(row, view.several)),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          color, size, opacity: others ? 0.6 : 0.9, symbol: group.map((row) => symbol + (isNoisy(row, x, y) ? "-open" : "")),
          line: { width: group.map((row) => (isNoisy(row, x, y) ? 1.5 : 1)), color: group.map((row) => (isNoisy(row, x, y) ? color : palette.paper)) },
        },
        ...(x.error && bars && { error_x: errors(group, x.error, 1, color) }),
        ...(y.error && bars && { error_y: errors(group, y.error, y.scale, color) }),
      };
    });
  }

  // The operating points of one method, joined from the largest file to the smallest.
  function curves(points, x, y, view, palette) {
    const joined = points.filter((row) => !row.dense && view.named.has(row.method));
    return [...Map.groupBy(joined, (row) => row.curve).values()].filter((group) => group.length > 1).map((group) => {
      group.sort((a, b) => a.value.compression_ratio - b.value.compression_ratio || b.value.top1 - a.value.top1);
      return {
        type: "scatter", mode: "lines", x: group.map(x.of), y: group.map(y.of), hoverinfo: "skip", showlegend: false, opacity: 0.45,
        line: { width: 1.25, color: look(group[0].method, view.named, palette).color },
      };
    });
  }

  const onFront = (gain, task) => rows.filter((row) => row.task === task && row.value[data.fronts[gain]]);

  function fronts(gain, y, view, palette) {
    if (view.tasks.length > FRONTS_DRAWN) return [];
    return view.tasks.map((task) => {
      const points = onFront(gain, task).filter((row) => view.everything || !isLow(row));
      points.sort((a, b) => a.value[gain] - b.value[gain]);
      return {
        type: "scatter", mode: "lines", x: points.map((row) => row.value[gain]), y: points.map(y.of), hoverinfo: "skip", showlegend: false,
        line: { shape: "vh", width: 1.5, color: palette.front },
      };
    });
  }

  function layout(xaxis, yaxis, palette, view, size) {
    const still = narrow.matches || view.paper;
    const grid = { gridcolor: palette.line, linecolor: palette.line, tickcolor: palette.line, fixedrange: Boolean(still) };
    return {
      margin: { l: 64, r: 12, t: 10, b: 46 }, hovermode: "closest", dragmode: still ? false : "zoom",
      showlegend: Boolean(view.paper), legend: { x: 1.02, y: 1, xanchor: "left", font: { color: palette.text } },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: palette.quiet },
      hoverlabel: { bgcolor: palette.paper, bordercolor: palette.line, font: { color: palette.text }, align: "left" },
      xaxis: { ...grid, ...xaxis }, yaxis: { ...grid, ...yaxis }, ...size,
    };
  }

  function dashed(palette) {
    return { type: "line", x0: 0.1, y0: 0.1, x1: 1000, y1: 1000, layer: "below", line: { dash: "dot", width: 1, color: palette.quiet } };
  }

  // The methods that a legend on paper names: those with most points on fronts, then by top-1.
  function prominent(points) {
    const groups = [...Map.groupBy(points.filter((row) => !row.dense), (row) => row.method)];
    const fronts = (group) => group.reduce((sum, row) => sum + Object.values(data.fronts).filter((front) => row.value[front]).length, 0);
    const best = (group) => Math.max(...group.map((row) => row.value.top1));
    groups.sort(([, a], [, b]) => fronts(b) - fronts(a) || best(b) - best(a));
    return new Set(groups.slice(0, groups.length === NAMED + 1 ? NAMED + 1 : NAMED).map(([name]) => name));
  }

  const known = (points, ...needed) => points.filter((row) => needed.every((name) => row.value[name] !== null));

  // The ends of intervals along an axis. Noisy timings, whose intervals may be of any width, do not widen a chart.
  const ends = (axis, view) => (row) => [-1, 1]
    .map((side) => axis.of(row) + side * (view.several || row.value.latency_noisy ? 0 : row.value[axis.error] ?? 0)).filter((end) => end > 0);

  function accuracyChart(gain, accuracy, points, view, palette) {
    const here = known(points, gain, "top1", "top1_drop"), title = TITLES[gain];
    const x = { gain, of: (row) => row.value[gain], error: gain === "latency_speedup" && `${gain}_ci95` };
    const labelled = view.several ? [] : here.filter((row) => row.value[data.fronts[gain]] && !row.dense);
    labelled.sort((a, b) => b.value[gain] - a.value[gain]);
    return {
      traces: [...fronts(gain, accuracy, view, palette), ...curves(here, x, accuracy, view, palette), ...scatter(here, x, accuracy, view, palette)],
      shape: layout(gainAxis(`${title}, gain over dense`, here.flatMap(ends(x, view))), heightAxis(accuracy.title, here, accuracy), palette, view),
      labels: { labelled, marks: here, x: x.of, y: accuracy.of, colour: palette.text, quiet: palette.quiet }, axes: [title, accuracy.title],
    };
  }

  function promiseChart(points, view, palette) {
    const here = known(points, "macs_ratio", "latency_speedup");
    const x = { of: (row) => row.value.macs_ratio };
    const y = { gain: "latency_speedup", of: (row) => row.value.latency_speedup, error: "latency_speedup_ci95", scale: 1 };
    return {
      traces: [...curves(here, x, y, view, palette), ...scatter(here, x, y, view, palette)],
      shape: layout(gainAxis("MACs, gain over dense", here.map(x.of)), gainAxis("latency, gain over dense", here.flatMap(ends(y, view))), palette, view, { shapes: [dashed(palette)] }),
      axes: ["MACs", "latency"],
    };
  }

  // What Plotly draws in each chart, { id: { traces, shape, labels, axes } }, and how many settings are low.
  function compose(asked) {
    const palette = Object.fromEntries(["text", "quiet", "line", "paper", "front"].map((name) => [name, colour(`var(--${name})`)]));
    const points = asked.points.filter((row) => asked.everything || !isLow(row));
    const view = { ...asked, named: asked.paper ? prominent(points) : new Set(points.map((row) => row.method)) };
    const accuracy = view.several
      ? { of: (row) => -100 * row.value.top1_drop, title: "top-1 gained, points" }
      : { of: (row) => 100 * row.value.top1, title: "top-1 %", error: "top1_ci95", scale: 100 };
    const charts = Object.fromEntries(Object.keys(TITLES).map((gain) => [gain, accuracyChart(gain, accuracy, points, view, palette)]));
    return { charts: { ...charts, promise: promiseChart(points, view, palette) }, low: asked.points.filter(isLow).length };
  }

  // Labels ----------------------------------------------------------------------------------------------------------

  // Places beside a point: [shift to the right, shift upwards] of the label's centre, for its width and height.
  const PLACES = [[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0], [0, 1], [0, -1], [-1, 0], [1, 2.4], [1, -2.4], [-1, 2.4], [-1, -2.4], [1, 4], [1, -4], [-1, 4], [-1, -4]];

  // Annotations that cover neither a point nor one another, for the size that the chart has.
  function annotate(chart, { labelled, marks, x, y, colour: color, quiet }) {
    const { xaxis, yaxis } = chart._fullLayout;
    const [width, height] = [xaxis._length, yaxis._length];
    const at = (row) => [xaxis.d2p(x(row)), height - yaxis.d2p(y(row))];
    const taken = marks.map(at).map(([left, bottom]) => [left - 4, bottom - 4, left + 4, bottom + 4]);
    const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    return labelled.flatMap((row) => {
      const name = row.shown.setting.length <= LONGEST_LABEL ? row.shown.setting : row.method;
      const [w, h] = [6.3 * name.length, 13], [left, bottom] = at(row);
      const boxes = PLACES.map(([right, up]) => [left + right * (7 + w / 2) - w / 2, bottom + up * (3 + h / 2) - h / 2]).map(([a, b]) => [a, b, a + w, b + h]);
      const box = boxes.find((tried) => tried[0] >= 0 && tried[2] <= width && tried[1] >= 0 && tried[3] <= height && !taken.some((other) => meets(tried, other)));
      if (!box) return [];
      taken.push(box);
      const [right, up] = [box[0] + w / 2 - left, box[1] + h / 2 - bottom];
      const far = Math.abs(up) > h; // then a line leads to the point
      return [{
        xref: "x", yref: "y", x: Math.log10(x(row)), y: y(row), text: escape(name), font: { size: 11, color }, borderpad: 0, showarrow: far,
        ...(far ? { ax: right, ay: -up, arrowhead: 0, arrowwidth: 0.75, arrowcolor: quiet, standoff: 5 } : { xshift: right, yshift: up, xanchor: "center", yanchor: "middle" }),
      }];
    });
  }

  return { compose, annotate, TITLES, FRONTS_DRAWN, KEPT };
};
