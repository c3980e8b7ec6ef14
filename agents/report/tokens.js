// The attempt token by token: a colour for the teacher's disagreement, marks for what cannot be seen, a tip.

const AGREES = 0.05; // of the scale's end: below it the teacher is at one with the student

const gaps = data.attempts.list.flatMap((attempt) => attempt.turns.flatMap((turn) => turn.tokens.map((token) => token[3])))
  .filter(known).sort((a, b) => a - b);
const scale = Math.max(0.05, gaps.length ? gaps[Math.floor((gaps.length - 1) * 0.98)] : 0);

const UNSEEN = /[\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}]/u;
const NAMED = { "\n": "nl", "\t": "tab", " ": "sp" };

// The text with a mark at every character that leaves no trace; the characters themselves stay in the text.
function visible(text) {
  const parts = [];
  let run = "";
  for (const char of text) {
    if (!UNSEEN.test(char) || char === "\u200d") {
      run += char;
      continue;
    }
    if (run) parts.push(run);
    run = "";
    const code = `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    parts.push(h("i", { class: `ws ${NAMED[char] || "code"}`, "data-code": NAMED[char] ? null : code }, char));
  }
  if (run) parts.push(run);
  return parts;
}

function tokenSpan(token, first) {
  const [text, , , gap] = token;
  const kind = !known(gap) ? "unscored" : gap < AGREES * scale ? "agrees" : "differs";
  const span = h("span", { class: `token ${kind}`, tabindex: first ? 0 : -1, "data-gap": gap }, visible(text));
  if (kind === "differs") span.style.setProperty("--t", `${(14 + 72 * Math.sqrt(Math.min(1, gap / scale))).toFixed(1)}%`);
  span.token = token;
  return span;
}

function tokenView(turn) {
  const view = h("div", { class: "tokens", role: "group", "aria-label": "Tokens of the attempt; arrow keys move from token to token" },
    turn.tokens.map((token, i) => tokenSpan(token, i === 0)));
  const [left, tail] = turn.tail;
  if (left) view.append(h("span", { class: "token unscored tail" }, visible(data.attempts.texts[tail])));
  view.addEventListener("pointerover", (event) => showTip(event.target.closest(".token")));
  view.addEventListener("pointerleave", hideTipSoon);
  view.addEventListener("focusin", (event) => showTip(event.target.closest(".token")));
  view.addEventListener("focusout", hideTipSoon);
  view.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
    const here = event.target.closest(".token");
    if (!step || !here) return;
    event.preventDefault();
    event.stopPropagation();
    const next = here[step];
    if (!next || !next.token) return;
    here.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  return h("div", {}, view,
    left > 0 && h("p", { class: "quiet note" }, `The last ${plural(left, "token")} of this turn are shown without their probabilities.`));
}

function legend() {
  return h("p", { class: "legend quiet" },
    h("span", { class: "token agrees" }, "agrees"),
    h("span", { class: "gradient", "aria-hidden": "true" }),
    h("span", {}, `disagrees, up to ${number(scale, 2)} nats and more`),
    h("span", { class: "token unscored" }, "not scored"));
}

let hiding = 0;

function hideTip() {
  $("tip").hidden = true;
  document.querySelectorAll(".token[aria-describedby]").forEach((token) => token.removeAttribute("aria-describedby"));
}

function hideTipSoon() {
  clearTimeout(hiding);
  hiding = setTimeout(hideTip, 160);
}

function probability(logp) {
  return known(logp) ? h("span", {}, number(logp), h("span", { class: "quiet" }, ` ${percentFine(Math.exp(logp))}`)) : "–";
}

const percentFine = (p) => (!known(p) ? "–" : p >= 0.0995 ? percent(p, 0) : p >= 0.001 ? percent(p, 1) : "<0.1%");

function showTip(node) {
  if (!node || !node.token) return;
  clearTimeout(hiding);
  hideTip();
  const [text, logp, teacherLogp, gap, top] = node.token;
  const line = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const bar = (p, who) => {
    const fillBar = h("i", { class: who });
    fillBar.style.width = `${(Math.max(0, Math.min(1, p || 0)) * 100).toFixed(1)}%`;
    return h("td", {}, h("span", { class: "bar" }, fillBar), h("span", { class: "num" }, percentFine(p)));
  };
  const table = top.length > 0 && h("table", {},
    h("thead", {}, h("tr", {}, ["the teacher's choice", "teacher", "student"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, top.map(([name, teacher, student]) => h("tr", { class: name === text ? "sampled" : null },
      h("th", { scope: "row" }, h("bdi", {}, visible(name))), bar(teacher, "teacher"), bar(student, "student")))));
  const tip = $("tip");
  tip.replaceChildren(h("p", { class: "tip-token" }, h("bdi", {}, visible(text))),
    h("dl", {}, line("log p, student", probability(logp)), line("log p, teacher", probability(teacherLogp)),
      line("gap", known(gap) ? `${number(gap)} nats` : "not scored")), table || "");
  tip.hidden = false;
  node.setAttribute("aria-describedby", "tip");
  const box = node.getClientRects()[0] || node.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const left = Math.max(8, Math.min(room - tip.offsetWidth - 8, box.left));
  const under = box.bottom + 4 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${under ? box.bottom + 4 : Math.max(8, box.top - tip.offsetHeight - 4)}px`;
}

$("tip").addEventListener("pointerenter", () => clearTimeout(hiding));
$("tip").addEventListener("pointerleave", hideTipSoon);
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

// A tip under the pointer goes when the page moves; the tip of the token with the focus moves along.
window.addEventListener("scroll", (event) => {
  const tip = $("tip");
  if (tip.hidden || tip.contains(event.target)) return;
  const focused = document.activeElement;
  if (focused.token && focused.hasAttribute("aria-describedby")) showTip(focused);
  else hideTip();
}, { passive: true, capture: true });
