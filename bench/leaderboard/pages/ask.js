"use strict";
// What the board is asked, as by `bench leaderboard`: conditions on columns, what is best, the fronts; and the answer.
// A figure counts as it is shown. A noisy timing, and a figure that was not measured, meet no condition.
window.Ask = (data, escape, link) => {
  const SLIDERS = [["size", "min"], ["drop", "max"], ["macs", "min"], ["latency", "min"]];
  const STOPS = {
    size: [1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128],
    macs: [1.1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64],
    latency: [1, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8, 10],
    drop: [0, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7, 10],
  };
  const BEST = {
    size: "Smallest", compressed: "Smallest after zstandard", macs: "Fewest MACs", latency: "Fastest",
    "images/s": "Most images per second", top1: "Most accurate", drop: "Most accurate",
  };
  const EXAMPLE = "max-drop", EXAMPLE_BOUND = 1;
  const ANSWERED = 4; // tasks
  const LISTED = 3;
  const measures = Object.fromEntries(data.measures.map((measure) => [measure.name, measure]));
  const bounds = new Map(); // such as "min-size", 4
  const sliders = {};
  const state = { sort: "", front: false };

  const figure = ({ column }, row) => Number.parseFloat(row.shown[column].replace("~", ""));
  const spread = ({ column }, row) => Number.parseFloat(row.shown[column].split("±")[1] ?? 0);
  const isNoisy = ({ column }, row) => row.shown[column].startsWith("~");
  const written = ({ unit }, value) => `${value}${value === 1 ? unit.replace(/s$/, "") : unit}`;

  function condition(key, bound) {
    const kind = key.slice(0, 3), measure = measures[key.slice(4)];
    const reached = (row) => (kind === "min" ? figure(measure, row) >= bound : figure(measure, row) <= bound);
    return {
      key, kind, measure, reached, met: (row) => reached(row) && !isNoisy(measure, row),
      words: `${measure.words} at ${kind === "min" ? "least" : "most"} ${written(measure, bound)}`,
    };
  }

  const conditions = () => [...bounds].map(([key, bound]) => condition(key, bound));
  const isAsked = () => bounds.size > 0 || state.front;
  const objective = () => measures[state.sort] ?? measures.size;

  function filter() {
    const all = conditions();
    return (row) => (!state.front || row.value.front) && all.every(({ met }) => met(row));
  }

  // Best first within each task, then noisy timings, then rows without the figure.
  function ordered(rows) {
    if (!state.sort && !bounds.size) return rows;
    const measure = objective();
    const sign = measure.higher ? -1 : 1;
    const place = (row) => [data.tasks.indexOf(row.task), row.value[measure.column] === null, isNoisy(measure, row), sign * row.value[measure.column]];
    const keyed = rows.map((row) => [place(row), row]);
    keyed.sort(([a], [b]) => { for (const at in a) if (a[at] !== b[at]) return a[at] - b[at]; return 0; });
    return keyed.map(([, row]) => row);
  }

  // The answer ------------------------------------------------------------------------------------------------------

  const listed = (rows) => rows.slice(0, LISTED).map(link).join(", ") + (rows.length > LISTED ? ` and ${rows.length - LISTED} more` : "");

  function told(row, asked) {
    const names = [objective().name, "size", "drop", ...asked.map(({ measure }) => measure.name)].filter((name) => measures[name]);
    return [...new Set(names)].map((name) => {
      const text = row.shown[measures[name].column];
      return `${measures[name].words}\u00a0${escape(/^[-\d.]+$/.test(text) ? text + measures[name].unit : text)}`;
    }).join(", ");
  }

  // `1 of the 3 others that meet this shares`
  function some(near, others, verb) {
    if (others.length === 1) return `the other that meets this ${near.length ? `${verb}s` : `does not ${verb}`}`;
    const count = near.length === others.length ? "all" : `${near.length || "none"} of the`;
    return `${count} ${others.length} others that meet this ${near.length === 1 ? `${verb}s` : verb}`;
  }

  // Others that the measurement does not separate from the best: by their intervals of timings, or by ranks.
  function alike(best, others) {
    const measure = objective();
    if (measure.timed) {
      const near = others.filter((row) => !isNoisy(measure, row) && figure(measure, row) + spread(measure, row) >= figure(measure, best) - spread(measure, best));
      return others.length ? ` By ${measure.words}, ${some(near, others, "overlap")} with its interval.` : "";
    }
    const ranks = (row) => (row.shown.rank_low ?? "–").split("-").map(Number);
    const [low, high = low] = ranks(best);
    const near = others.filter((row) => { const [from, to = from] = ranks(row); return from <= high && to >= low; });
    if (!Number.isFinite(low) || !others.length) return "";
    return ` By top-1, ${some(near, others, "share")} ranks with it${near.length ? ": they cannot all be told apart" : ""}.`;
  }

  // The last condition without which rows would be left, and how near these come to it.
  function nearest(rows, asked) {
    for (const culprit of [...asked].reverse()) {
      const others = asked.filter((each) => each !== culprit);
      const left = rows.filter((row) => others.every(({ met }) => met(row)));
      const known = left.filter((row) => Number.isFinite(figure(culprit.measure, row)) && !isNoisy(culprit.measure, row));
      if (!known.length) continue;
      const sign = culprit.kind === "min" ? -1 : 1;
      const [near] = known.sort((a, b) => sign * (figure(culprit.measure, a) - figure(culprit.measure, b)));
      const given = others.length ? ` with ${others.map(({ words }) => words).join(" and ")}` : "";
      return ` The ${sign < 0 ? "highest" : "lowest"} ${culprit.measure.words}${given} is ${written(culprit.measure, figure(culprit.measure, near))}: ${link(near)}.`;
    }
    return "";
  }

  function answerFor(rows, among) {
    const asked = isAsked() ? conditions() : [condition(EXAMPLE, EXAMPLE_BOUND)];
    const candidates = rows.filter((row) => !row.dense && row.value.seeds && (!state.front || row.value.front));
    const reached = candidates.filter((row) => asked.every((each) => each.reached(row)));
    const met = reached.filter((row) => asked.every((each) => each.met(row)));
    const measure = objective();
    const given = asked.map((each) => each.words).join(", ");
    const words = `${among.length ? ` of ${escape(among.join(", "))}` : ""}${state.front ? " on a Pareto front" : ""}${given && ` with ${given}`}`;
    const noisy = reached.length > met.length ? ` Left out, because a noisy timing meets no condition: ${listed(reached.filter((row) => !met.includes(row)))}.` : "";
    const [best] = met.filter((row) => row.value[measure.column] !== null && !isNoisy(measure, row))
      .sort((a, b) => (measure.higher ? -1 : 1) * (a.value[measure.column] - b.value[measure.column]));
    if (!best && !isAsked()) return "";
    if (!best) return `<strong>No setting${words}.</strong>${nearest(candidates, asked)}${noisy}`;
    const title = `${BEST[measure.name] ?? `Best by ${measure.words}`}${words}`;
    const opening = isAsked() ? title : `For example, the ${title[0].toLowerCase()}${title.slice(1)}`;
    return `<strong>${opening}: ${link(best)}</strong>, ${told(best, asked)}.${alike(best, met.filter((row) => row !== best))}${noisy}`;
  }

  // `methods` are those that are chosen; none for all.
  function answer(tasks, rows, methods) {
    if (!isAsked() && !state.sort) return ""; // the answers above are for those who ask nothing
    if (tasks.length > ANSWERED) return `<p>${tasks.length} tasks: choose one for an answer.</p>`;
    return tasks.map((task) => {
      const text = answerFor(rows.filter((row) => row.task === task && (!methods.size || methods.has(row.method))), [...methods]);
      const where = tasks.length > 1 ? `<span class="quiet">${escape(task.title)}</span><br>` : "";
      return text && `<p>${where}${text}</p>`;
    }).join("");
  }

  // The controls ----------------------------------------------------------------------------------------------------

  // Every stop of a slider, from loose to strict for "at least", from strict to loose for "at most"; null is any value.
  function stops(name, kind, rows) {
    const known = rows.map((row) => figure(measures[name], row)).filter(Number.isFinite);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const values = STOPS[name].filter((stop) => (kind === "min" ? stop <= high : stop >= low));
    const own = bounds.get(`${kind}-${name}`);
    if (own !== undefined && !values.includes(own)) values.push(own);
    values.sort((a, b) => a - b);
    return kind === "min" ? [null, ...values] : [...values, null];
  }

  function makeSlider(name, kind, rows, changed) {
    const key = `${kind}-${name}`, measure = measures[name];
    const box = document.createElement("div");
    box.innerHTML = `<label for="${key}">${escape(measure.words)} at ${kind === "min" ? "least" : "most"}</label>` +
      `<output for="${key}"></output><input type="range" id="${key}" min="0" step="1">`;
    const [, output, input] = box.children;
    let values = [];
    sliders[key] = () => {
      values = stops(name, kind, rows);
      input.max = values.length - 1;
      input.value = values.indexOf(bounds.get(key) ?? null);
      output.textContent = bounds.has(key) ? written(measure, bounds.get(key)) : "any";
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => {
      const value = values[input.value];
      if (value === null) bounds.delete(key); else bounds.set(key, value);
      changed();
    });
    return box;
  }

  function make(form, rows, changed) {
    for (const [name, kind] of SLIDERS) if (measures[name] && rows.some((row) => Number.isFinite(figure(measures[name], row)))) form.append(makeSlider(name, kind, rows, changed));
    const rest = document.createElement("div");
    rest.className = "rest";
    rest.innerHTML = `<label>Best by <select name="sort">${data.measures.map(({ name, words }) => `<option value="${escape(name)}">${escape(words)}</option>`).join("")}</select></label>` +
      `<label><input type="checkbox" name="front"> <span><span class="front" aria-hidden="true">●</span> on a front only</span></label>` +
      `<span class="more"></span><button type="button" name="clear">Clear</button>`;
    const [sort, front, more, clear] = ["select", "input", ".more", "button"].map((name) => rest.querySelector(name));
    sort.addEventListener("change", () => { state.sort = sort.value; changed(); });
    front.addEventListener("change", () => { state.front = front.checked; changed(); });
    clear.addEventListener("click", () => { bounds.clear(); Object.assign(state, { sort: "", front: false }); changed(); });
    more.addEventListener("click", ({ target }) => { if (bounds.delete(target.name)) changed(); });
    form.append(rest);
    sliders.rest = () => {
      sort.value = objective().name;
      front.checked = state.front;
      clear.hidden = !isAsked() && !state.sort;
      more.innerHTML = conditions().filter(({ key }) => !sliders[key]).map(({ key, words }) => `<button type="button" name="${escape(key)}" aria-label="Drop the condition ${escape(words)}">${escape(words)} ×</button>`).join("");
    };
  }

  function read(wanted) {
    bounds.clear();
    for (const [key, value] of wanted) {
      const known = /^(min|max)-/.test(key) && measures[key.slice(4)];
      if (known && value.trim() && Number.isFinite(Number(value))) bounds.set(key, Number(value));
    }
    state.sort = measures[wanted.get("sort")] ? wanted.get("sort") : "";
    state.front = wanted.get("front") === "1";
  }

  function write(wanted) {
    for (const [key, bound] of bounds) wanted.append(key, bound);
    if (state.sort) wanted.append("sort", state.sort);
    if (state.front) wanted.append("front", "1");
  }

  const show = () => Object.values(sliders).forEach((update) => update());
  const order = () => (state.sort || (bounds.size ? objective().name : ""));
  return { make, read, write, show, filter, ordered, order, answer, isAsked };
};
