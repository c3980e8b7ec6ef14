// One figure: lines with bands over steps or generations, a cursor for pointer and keys, marks for alarms.

const PAD = { top: 14, right: 14, bottom: 30, left: 46 };

// Every figure spans the whole run, so that what lies below each other happened at the same time.
const everyPoint = [...data.success, ...data.curves, ...data.more]
  .flatMap((curve) => curve.series.flatMap((line) => line.points)).sort((a, b) => a.step - b.step);
const extent = Object.fromEntries(["step", "generations"].map((axis) => {
  const places = everyPoint.map((point) => point[axis]);
  return [axis, [Math.min(...places), Math.max(...places)]];
}));

function ticks(low, high, wanted) {
  const span = high - low || 1;
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

function short(value) {
  if (Math.abs(value) >= 1e6) return `${number(value / 1e6)}M`;
  if (Math.abs(value) >= 1e4) return `${number(value / 1e3)}k`;
  return number(value);
}

function domain(curve) {
  if (curve.unit === "share") return [0, 1];
  const values = curve.series.flatMap((line) => line.points.flatMap((p) => [p.mean, p.low, p.high])).filter(known);
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low >= 0 && low < high * 0.6) low = 0;
  if (curve.key === "reward") [low, high] = [Math.min(0, low), Math.max(1, high)];
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  const room = (high - low) * 0.06;
  return curve.key === "reward" ? [low, high] : [low === 0 ? 0 : low - room, high + room];
}

// A running mean that leaves the ends where they are; null where nothing was measured.
function smooth(points) {
  const reach = Math.max(1, Math.round(points.length / 24));
  return points.map((point, i) => {
    const near = points.slice(Math.max(0, i - reach), i + reach + 1).map((p) => p.mean).filter(known);
    return { ...point, mean: known(point.mean) ? near.reduce((a, b) => a + b, 0) / near.length : null };
  });
}

class Chart {
  constructor(curve, alarms, tall) {
    this.curve = curve;
    this.alarms = alarms;
    this.height = tall ? 320 : 168;
    this.axis = "step";
    this.at = null;
    this.canvas = svg("svg", { role: "img", tabindex: 0, class: "plot", "aria-label": this.describe() });
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    this.node = h("figure", { class: tall ? "figure tall" : "figure", "data-key": curve.key },
      h("figcaption", {}, h("h3", {}, curve.title), h("p", { class: "quiet" }, curve.caption)),
      this.readout, this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  describe() {
    const parts = this.curve.series.map((line) => {
      const points = line.points.filter((p) => known(p.mean));
      const [first, last] = [points[0], points.at(-1)];
      const say = (p) => `${measured(p.mean, this.curve.unit)} at step ${p.step}`;
      return points.length > 1 ? `${line.name}: ${say(first)}, ${say(last)}` : `${line.name}: ${say(last)}`;
    });
    return `${this.curve.title}. ${parts.join(". ")}.`;
  }

  setAxis(axis) {
    this.axis = axis;
    this.at = null;
    this.draw();
  }

  places() {
    const all = this.curve.series.flatMap((line) => line.points.map((p) => p[this.axis]));
    return [...new Set(all)].sort((a, b) => a - b);
  }

  // The x of a step: alarms know only the step at which they rang.
  place(step) {
    return (everyPoint.find((p) => p.step >= step) || everyPoint.at(-1))[this.axis];
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const height = Math.min(this.height, Math.max(150, width * 0.62));
    const x0 = extent[this.axis][0];
    const x1 = Math.max(extent[this.axis][1], x0 + 1);
    const [y0, y1] = domain(this.curve);
    this.x = (v) => PAD.left + ((v - x0) / (x1 - x0)) * (width - PAD.left - PAD.right);
    this.y = (v) => height - PAD.bottom - ((v - y0) / (y1 - y0)) * (height - PAD.top - PAD.bottom);
    const share = this.curve.unit === "share";
    const grid = ticks(y0, y1, height > 250 ? 5 : share ? 2 : 4).flatMap((v) => [
      svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: this.y(v), y2: this.y(v) }),
      svg("text", { class: "tick", x: PAD.left - 8, y: this.y(v) + 4, "text-anchor": "end" },
        share ? percent(v) : short(v)),
    ]);
    const whole = ticks(x0, x1, Math.max(2, Math.floor(width / 110))).filter(Number.isInteger);
    const below = whole.map((v) => svg("text",
      { class: "tick", x: this.x(v), y: height - 10, "text-anchor": v === x1 ? "end" : "middle" }, short(v)));
    const alarms = this.alarms.map((alarm) => {
      const at = this.x(this.place(alarm.step));
      return svg("g", { class: "alarm" },
        svg("line", { x1: at, x2: at, y1: PAD.top - 4, y2: height - PAD.bottom }),
        svg("path", { d: `M${at - 5},${PAD.top - 4}h10l-5,8z` }),
        svg("title", {}, `step ${alarm.step}: ${alarm.message || alarm.name}`));
    });
    this.canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.canvas.setAttribute("height", height);
    this.cursor = svg("line", { class: "cursor", y1: PAD.top, y2: height - PAD.bottom, visibility: "hidden" });
    this.canvas.replaceChildren(...grid, ...below, ...alarms, this.cursor,
      ...this.curve.series.map((line, i) => this.line(line.points, i)));
    this.show();
  }

  line(points, i) {
    const runs = [];
    let run = null;
    for (const point of points) {
      if (!known(point.mean)) run = null;
      else if (run) run.push(point);
      else runs.push((run = [point]));
    }
    const along = (list, key) => list.map((p) => `${this.x(p[this.axis]).toFixed(1)},${this.y(p[key]).toFixed(1)}`);
    const bands = runs.filter((list) => list.every((p) => known(p.low) && known(p.high)))
      .map((list) => svg("path", { class: "band", d: `M${along(list, "high").join("L")}L${along([...list].reverse(), "low").join("L")}Z` }));
    const dense = points.length > 48;
    const lines = runs.map((list) => svg("path", { class: dense ? "line raw" : "line", d: `M${along(list, "mean").join("L")}` }));
    const trend = dense ? runs.map((list) => svg("path", { class: "line", d: `M${along(smooth(list), "mean").join("L")}` })) : [];
    const dots = runs.filter((list) => points.length <= 200 || list.length === 1).flat().map((p) => svg("circle",
      { class: "point", cx: this.x(p[this.axis]), cy: this.y(p.mean), r: this.curve.unit === "share" && !dense ? 3 : dense ? 1 : 2 }));
    return svg("g", { class: `series series-${i}` }, bands, lines, trend, dots);
  }

  hover(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = event.clientX - box.left;
    const places = this.places();
    this.point(places.reduce((best, v) => (Math.abs(this.x(v) - at) < Math.abs(this.x(best) - at) ? v : best)));
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const places = this.places();
    const i = this.at === null ? (step > 0 ? -1 : places.length) : places.indexOf(this.at);
    this.point(places[Math.min(places.length - 1, Math.max(0, i + step))]);
  }

  point(at) {
    this.at = at;
    this.show();
  }

  // The numbers under the cursor; without a cursor the latest ones.
  show() {
    const { unit, series } = this.curve;
    this.cursor.setAttribute("visibility", this.at === null ? "hidden" : "visible");
    if (this.at !== null) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(this.at));
    const items = series.map((line, i) => {
      const points = line.points.filter((p) => known(p.mean));
      const point = this.at === null ? points.at(-1) : points.find((p) => p[this.axis] === this.at);
      const range = point && interval(point);
      return h("span", { class: `key series-${i}` }, h("i", { class: "swatch", "aria-hidden": "true" }),
        series.length > 1 ? `${line.name} ` : "", h("b", {}, point ? measured(point.mean, unit) : "–"),
        range && h("span", { class: "quiet" }, ` ${range}`));
    });
    const any = series.flatMap((line) => line.points).find((p) => p[this.axis] === this.at);
    const where = any && `step ${count(any.step)}, ${plural(any.generations, "generation")}`;
    this.readout.replaceChildren(...items, h("span", { class: "where quiet" }, where || ""));
  }
}
