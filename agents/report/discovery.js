// A discovery: how many runs were solved within k attempts, and the story of each run.

const { summary } = data;
const PALETTE = 6;

function masthead() {
  const facts = [
    ["runs", summary.runs, count], ["solved", summary.solved, count], ["budget", summary.budget, count],
    ["attempts", summary.attempts, count], ["not scored", summary.unscored || null, count], ["time", summary.seconds, duration],
  ].filter(([, value]) => known(value));
  $("masthead").append(
    h("p", { class: "eyebrow" }, "Discovery report", data.run && h("span", { class: "run" }, data.run)),
    h("h1", {}, data.recipe, h("span", { class: "on" }, " on "), data.env),
    h("p", { class: "model" }, data.model),
    h("dl", { class: "facts" }, facts.map(([name, value, say]) => h("div", {}, h("dt", {}, name), h("dd", {}, say(value))))));
}

// discovery@k over k, every doubling of k as wide as the one before.
function curve(points) {
  const [width, height, left, right, top, bottom] = [720, 300, 46, 18, 14, 34];
  const last = Math.log2(points.at(-1).k) || 1;
  const x = (k) => left + (Math.log2(k) / last) * (width - left - right);
  const y = (share) => height - bottom - share * (height - top - bottom);
  const along = (list, key) => list.map((p) => `${x(p.k).toFixed(1)},${y(p[key]).toFixed(1)}`).join("L");
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    svg("line", { class: "grid", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
    svg("text", { class: "tick", x: left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share))]);
  const below = points.map((p) => svg("text", { class: "tick", x: x(p.k), y: height - 12, "text-anchor": "middle" }, count(p.k)));
  const label = points.map((p) => `${percent(p.mean)} within ${plural(p.k, "attempt")}`).join(", ");
  return svg("svg", { class: "plot", role: "img", viewBox: `0 0 ${width} ${height}`, "aria-label": `Runs solved: ${label}` },
    grid, below, svg("g", { class: "series series-0" },
      svg("path", { class: "band", d: `M${along(points, "high")}L${along([...points].reverse(), "low")}Z` }),
      svg("path", { class: "line", d: `M${along(points, "mean")}` }),
      points.map((p) => svg("circle", { class: "point", cx: x(p.k), cy: y(p.mean), r: 3 }))));
}

function headline() {
  const node = $("headline");
  if (summary.runs < summary.runs_wanted) {
    node.append(h("p", { class: "unfinished" }, h("b", {}, "Unfinished."), ` ${count(summary.runs)} of ${plural(summary.runs_wanted, "run")} are over.`));
  }
  const points = data.curve.filter((point) => known(point.mean));
  if (!points.length) return;
  const end = points.at(-1);
  const rows = points.map((p) => h("tr", {}, h("th", { scope: "row" }, count(p.k)), h("td", {}, percent(p.mean)), h("td", {}, interval(p))));
  node.append(h("div", { class: "results" },
    h("article", { class: "result" }, h("h2", {}, `Solved within ${plural(end.k, "attempt")}`),
      h("div", { class: "pair" }, h("div", { class: "figure-of" }, h("span", { class: "big" }, percent(end.mean)), h("span", { class: "range" }, interval(end)))),
      h("p", { class: "quiet" }, `${plural(end.n, "run")} of ${plural(end.tasks, "task")}. 95% interval, clustered by task.`)),
    h("figure", { class: "figure" }, h("figcaption", {}, h("h3", {}, "discovery@k"),
      h("p", { class: "quiet" }, "Share of runs with a solution among the first k attempts")), curve(points),
      h("details", { class: "more" }, h("summary", {}, "The same as a table"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers" },
        h("table", {}, h("thead", {}, h("tr", {}, ["k", "solved", "95% interval"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)))))));
}

const word = (kind) => (kind === "none" ? "nothing wrong" : kind.replaceAll("_", " "));

// What the environment found wrong first, batch after batch: one bar a batch, one colour a kind.
function movement(run) {
  const colour = (kind) => (kind === "none" ? "solved" : `kind-${run.kinds.filter((k) => k !== "none").indexOf(kind) % PALETTE}`);
  const bar = (batch) => {
    const total = Object.values(batch.feedback).reduce((a, b) => a + b, 0);
    return h("div", { class: "kinds", "aria-hidden": "true" }, run.kinds.filter((kind) => batch.feedback[kind]).map((kind) => {
      const part = h("i", { class: colour(kind), title: `${word(kind)}: ${batch.feedback[kind]}` });
      part.style.width = `${(100 * batch.feedback[kind]) / total}%`;
      return part;
    }));
  };
  const said = (batch) => run.kinds.filter((kind) => batch.feedback[kind]).map((kind) => `${word(kind)} ${batch.feedback[kind]}`).join(", ");
  const step = Math.max(1, Math.ceil(run.batches.length / 40));
  const shown = run.batches.filter((_, i) => i % step === 0 || i === run.batches.length - 1);
  const row = (batch) => h("tr", {}, h("th", { scope: "row" }, `to ${count(batch.attempts)}`), h("td", { class: "bar-cell" }, bar(batch), h("span", { class: "quiet" }, said(batch))),
    h("td", {}, number(batch.reward)), h("td", {}, number(batch.entropy)), h("td", {}, known(batch.teacher_gap) ? number(batch.teacher_gap) : "–"));
  return h("section", { class: "block" }, h("h4", {}, "How it moved",
    h("span", { class: "quiet" }, "first complaint about each attempt; mean reward; entropy and gap to the teacher, nats a token")),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Batches" }, h("table", { class: "moved" },
      h("thead", {}, h("tr", {}, ["attempts", "the environment said", "reward", "entropy", "gap"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, shown.map(row)))));
}

function tried(attempt) {
  const items = attempt.turns.flatMap((turn) => turn.feedback);
  // What the environment adds (the answer was cut off) is shown where nothing else was said.
  const complaints = (attempt.turns.at(-1)?.feedback || []).filter((item) => item.severity !== "info");
  const said = complaints.find((item) => item.source !== "env") || complaints[0];
  const act = attempt.turns.map(spoken).filter(Boolean).join(" → ") || "(nothing)";
  const details = h("details", { class: "try" }, h("summary", { class: "line" },
    h("span", { class: "n" }, known(attempt.number) ? count(attempt.number) : "–"), h("span", { class: "act", dir: "auto" }, act),
    h("span", { class: "marks" }, rewardBadge(attempt.reward, attempt.scored)), h("span", { class: "remark", dir: "auto" }, said ? texts[said.text].split("\n", 1)[0] : "")));
  details.addEventListener("toggle", () => details.append(...[
    ...attempt.turns.map((turn) => h("pre", { class: "text", dir: "auto" }, texts[turn.text])),
    items.length > 0 && block("answer", "What came back", h("ul", {}, items.map(feedbackCard))),
    ...attempt.turns.filter((turn) => turn.teacher && turn.teacher.length).map((turn) =>
      block("teacher", h("span", {}, "What the teacher saw ", h("span", { class: "quiet" }, "with what the policy did not see ", h("mark", {}, "marked"))), teacherView(turn))),
  ].filter(Boolean)), { once: true });
  return h("li", {}, details);
}

function story(run) {
  const how = { solved: ["good", `solved at attempt ${count(run.found)}`], budget: ["bad", "not solved"], unscored: ["", "could not be scored"] }[run.stopped]
    || ["", "unfinished"];
  const first = run.attempts.find((attempt) => attempt.turns.length && attempt.turns[0].messages.length);
  const details = h("details", { class: "group story" }, h("summary", {}, run.task,
    known(run.seed) && h("span", { class: "quiet" }, `seed ${run.seed}`), h("span", { class: `badge ${how[0]}` }, how[1]),
    h("span", { class: "quiet" }, plural(run.total, "attempt"))));
  const draw = () => details.append(...[
    first && block("prompt", "The question", (first.turns[0].messages.slice(-1)).map(([role, text]) => bubble(role, texts[text])),
      first.turns[0].messages.length > 1 && h("details", { class: "earlier" }, h("summary", {}, "The whole prompt"),
        first.turns[0].messages.map(([role, text]) => bubble(role, texts[text])))),
    run.solution !== null && block("solution", `The solution, attempt ${count(run.found)}`, h("pre", { class: "text", dir: "auto" }, run.solution)),
    run.batches.length > 0 && movement(run),
    block("tries", h("span", {}, "Attempt after attempt ", run.total > run.attempts.length
      && h("span", { class: "quiet" }, `${count(run.attempts.length)} of ${count(run.total)} are in this page`)),
    h("ol", { class: "outline" }, run.attempts.map((attempt, i) => [
      summary.method === "sdpo" && i > 0 && attempt.step !== run.attempts[i - 1].step && h("li", { class: "update" }, "the model learnt from the attempts above"),
      tried(attempt)]))),
  ].filter(Boolean));
  details.addEventListener("toggle", draw, { once: true });
  return details;
}

function settings() {
  const flat = (table, prefix = "") => Object.entries(table).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length ? flat(value, `${prefix}${key}.`) : [[prefix + key, value]]);
  const say = (value) => (value === null ? h("span", { class: "quiet" }, "not set") : typeof value === "string" ? value : JSON.stringify(value));
  $("config").append(h("details", { class: "group" }, h("summary", {}, "every setting"), h("table", { class: "settings" },
    h("tbody", {}, flat(data.config).map(([key, value]) => h("tr", {}, h("th", { scope: "row" }, key), h("td", { dir: "auto" }, say(value))))))));
}

masthead();
headline();
$("attempts-count").append(`${plural(data.attempts.total, "attempt")} in ${plural(data.runs.length, "run")}`);
$("runs").append(...data.runs.map(story));
if (!data.runs.length) $("runs").append(h("p", { class: "empty" }, "No attempt has been made yet."));
else document.querySelector(".story").open = true;
settings();
document.documentElement.dataset.ready = "";
