// The upper half of the page: what ran, what came of it, how it went, how it was set up.

function masthead() {
  const { totals } = data;
  const facts = [
    ["steps", totals.steps, count], ["generations", totals.generations, count], ["tokens", totals.tokens, count],
    ["time", totals.seconds, duration], ["CPU time", totals.cpu_seconds, duration],
  ].filter(([, value]) => known(value));
  $("masthead").append(
    h("p", { class: "eyebrow" }, "Run report", data.run && h("span", { class: "run" }, data.run)),
    h("h1", {}, data.recipe || "Training run", data.env && h("span", { class: "on" }, " on "), data.env),
    data.model && h("p", { class: "model" }, data.model),
    facts.length > 0 && h("dl", { class: "facts" },
      facts.map(([name, value, say]) => h("div", {}, h("dt", {}, name), h("dd", {}, say(value))))) || "");
}

function figureOf(word, point) {
  if (!point) return null;
  return h("div", { class: `figure-of ${word}` }, h("span", { class: "quiet" }, word),
    h("span", { class: "big" }, percent(point.mean)),
    h("span", { class: "range" }, interval(point) || ""));
}

// Both intervals on one ruler from 0 to 100 %.
function ruler(line) {
  const place = (node, left, width) => {
    node.style.left = percent(left, 2).replace("\u2212", "-");
    if (width !== undefined) node.style.width = percent(Math.max(0.004, width), 2);
    return node;
  };
  const bar = (point, name) => h("div", { class: `span ${name}` }, point && known(point.mean) && [
    known(point.low) && known(point.high) && place(h("i", { class: "reach" }), point.low, point.high - point.low),
    place(h("i", { class: "mean" }), point.mean)]);
  return h("div", { class: "ruler", "aria-hidden": "true" }, bar(line.before, "before"), bar(line.after, "after"),
    h("div", { class: "ends" }, h("span", {}, "0%"), h("span", {}, "50%"), h("span", {}, "100%")));
}

function headline() {
  const node = $("headline");
  if (!data.finished) {
    const steps = data.totals.steps;
    node.append(h("p", { class: "unfinished" }, h("b", {}, "Run unfinished."),
      steps ? ` ${plural(steps, "step")} so far.` : !data.headline.length && " Nothing was measured yet.",
      data.headline.length > 0 && " The numbers below are the first and the latest measured."));
  }
  const latestReward = data.curves.find((curve) => curve.key === "reward");
  if (!data.headline.length && latestReward) {
    const point = latestReward.series[0].points.filter((p) => known(p.mean)).at(-1);
    node.append(h("p", {}, `Training reward ${number(point.mean)} at step ${point.step}; no held-out evaluation yet.`));
  }
  node.append(h("div", { class: "results" }, data.headline.map((line) => {
    const { before, after } = line;
    const gain = before && after && known(before.mean) && known(after.mean) ? (after.mean - before.mean) * 100 : null;
    const end = after || before;
    const sample = [known(end.n) && plural(end.n, "attempt"), known(end.tasks) && `at ${plural(end.tasks, "task")}`];
    return h("article", { class: "result" },
      h("h2", {}, "Held-out success, ", line.name),
      h("div", { class: "pair" }, figureOf("before", before), after && h("span", { class: "arrow", "aria-hidden": "true" }, "→"),
        figureOf(data.finished ? "after" : "so far", after)),
      ruler(line),
      h("p", { class: "quiet" }, gain !== null && h("b", {}, `${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(0)} points. `),
        `95% intervals. ${sample.filter(Boolean).join(" ")}`));
  })));
}

function alarms() {
  if (!data.alarms.length) return;
  $("alarms").hidden = false;
  $("alarms").append(h("ul", {}, data.alarms.map((alarm) => h("li", {},
    h("b", {}, String(alarm.name || "alarm").replaceAll("_", " ")), h("span", { class: "quiet" }, ` step ${alarm.step} `),
    h("span", {}, alarm.message || ""),
    known(alarm.value) && h("span", { class: "quiet" }, ` ${number(alarm.value)}${known(alarm.limit) ? `, limit ${number(alarm.limit)}` : ""}`)))));
}

function figures() {
  const node = $("figures");
  // An alarm named after a metric is marked on that metric and on success, any other one everywhere.
  const keys = new Set([...data.curves, ...data.more].map((curve) => curve.key));
  const build = (curve, tall) => new Chart(curve, data.alarms.filter(({ name }) => tall || !keys.has(name) || name === curve.key), tall);
  const success = data.success.map((curve) => build(curve, true));
  const curves = data.curves.map((curve) => build(curve, false));
  const more = data.more.map((curve) => build(curve, false));
  const all = [...success, ...curves, ...more];
  if (!all.length) {
    node.append(h("p", { class: "empty" }, "No step has been logged yet."));
    return;
  }
  node.append(...success.map((chart) => chart.node), h("div", { class: "grid" }, curves.map((chart) => chart.node)));
  if (more.length) {
    node.append(h("details", { class: "more" }, h("summary", {}, "More curves"),
      h("div", { class: "grid" }, more.map((chart) => chart.node))));
  }
  node.append(numbers([...data.success, ...data.curves, ...data.more]));
  if (data.teacher) node.append(teacherCheck());
  $("axis").hidden = !all.some((chart) => chart.curve.series.some((line) => line.points.some((p) => p.generations > 0)));
  $("axis").addEventListener("change", (event) => all.forEach((chart) => chart.setAxis(event.target.value)));
}

function numbers(curves) {
  const columns = curves.flatMap((curve) => curve.series.map((line) => ({
    name: curve.series.length > 1 ? `${curve.title}, ${line.name}` : curve.title,
    unit: curve.unit,
    at: new Map(line.points.map((p) => [p.step, p])),
  })));
  const steps = [...new Set(columns.flatMap((column) => [...column.at.keys()]))].sort((a, b) => a - b);
  const row = (step) => h("tr", {}, h("th", { scope: "row" }, count(step)), columns.map(({ at, unit }) => {
    const point = at.get(step);
    return h("td", {}, point && known(point.mean) ? measured(point.mean, unit === "share" ? unit : "") : "");
  }));
  const head = h("tr", {}, h("th", { scope: "col" }, "Step"), columns.map(({ name }) => h("th", { scope: "col" }, name)));
  const details = h("details", { class: "more" }, h("summary", {}, "The same as a table"));
  details.addEventListener("toggle", () => details.append(h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers" },
    h("table", {}, h("thead", {}, head), h("tbody", {}, steps.map(row))))), { once: true });
  return details;
}

function teacherCheck() {
  return h("details", { class: "more" }, h("summary", {}, "The check of the teacher before training"), settingsTable(flat(data.teacher)));
}

const plain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function flat(table, prefix = "") {
  return Object.entries(table).flatMap(([key, value]) =>
    plain(value) && Object.keys(value).length ? flat(value, `${prefix}${key}.`) : [[prefix + key, value]]);
}

function settingsTable(rows) {
  const say = (value) => (typeof value === "string" ? value : known(value) ? minus(String(value)) : JSON.stringify(value));
  return h("table", { class: "settings" }, h("tbody", {}, rows.map(([key, value]) =>
    h("tr", {}, h("th", { scope: "row" }, key), h("td", { dir: "auto" }, value === null ? h("span", { class: "quiet" }, "not set") : say(value))))));
}

function settings() {
  const groups = Object.entries(data.config).filter(([, value]) => plain(value) && Object.keys(value).length);
  const single = Object.entries(data.config).filter(([, value]) => !plain(value) || !Object.keys(value).length);
  const block = (name, rows, open) => h("details", { class: "group", open },
    h("summary", {}, name.replaceAll("_", " "), h("span", { class: "quiet" }, ` ${plural(rows.length, "setting")}`)), settingsTable(rows));
  $("config").append(
    single.length ? block("run", single, true) : "",
    ...groups.map(([name, table]) => block(name, flat(table), false)));
  if (!single.length && !groups.length) $("config").append(h("p", { class: "empty" }, "No configuration was written."));
}
