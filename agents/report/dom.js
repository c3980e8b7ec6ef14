// Elements from descriptions, and numbers as words. Text reaches the page through text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const known = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace("-", "\u2212");
const count = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "–");
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

function number(value, digits = 3) {
  if (!known(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return minus(value.toExponential(1));
  return minus(String(Number(value.toPrecision(digits))));
}

function percent(value, digits) {
  if (!known(value)) return "–";
  const shown = value * 100;
  const places = digits ?? (shown > 0 && shown < 1 ? 1 : 0);
  return `${minus(shown.toFixed(places))}%`;
}

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

const measured = (value, unit) =>
  unit === "share" ? percent(value) : `${number(value)}${unit && known(value) ? ` ${unit}` : ""}`;

const interval = (point) =>
  known(point.low) && known(point.high) ? `${percent(point.low)} to ${percent(point.high)}` : null;
