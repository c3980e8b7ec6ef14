// One attempt in full: what the policy saw, what it wrote, what came back, what the teacher saw.

const texts = data.attempts.texts;
const scored = (attempt) => attempt.scored && known(attempt.reward);
const succeeded = (attempt) => scored(attempt) && attempt.reward >= 1;

function rewardBadge(reward, isScored = true) {
  if (!isScored || !known(reward)) return h("span", { class: "badge" }, "not scored");
  const word = reward >= 1 ? "good" : reward > 0 ? "partial" : "bad";
  return h("span", { class: `badge ${word}`, title: "reward" }, number(reward));
}

function bubble(role, content, extra = "") {
  return h("div", { class: `bubble role-${["system", "user", "assistant", "tool"].includes(role) ? role : "other"} ${extra}` },
    h("span", { class: "role" }, role), h("div", { class: "content", dir: "auto" }, content));
}

// Words and the white space between them: the grain at which two prompts are compared.
const words = (text) => text.match(/\s+|[^\s]+/gu) || [];

// Which words of b are not in a, by longest common subsequence between a common head and a common tail.
function inserted(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [n, m] = [a.length - head - tail, b.length - head - tail];
  const fresh = b.map((_, i) => i >= head && i < head + m);
  if (n * m === 0 || n * m > 4e6) return fresh;
  const best = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      best[i][j] = a[head + i] === b[head + j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  for (let i = 0, j = 0; i < n && j < m;) {
    if (a[head + i] === b[head + j]) { fresh[head + j] = false; i++; j++; }
    else if (best[i + 1][j] >= best[i][j + 1]) i++;
    else j++;
  }
  return fresh.map((is, i) => is || (fresh[i - 1] && fresh[i + 1] && !b[i].trim()));
}

function marked(own, other) {
  const b = words(other);
  const fresh = inserted(words(own), b);
  const parts = [];
  for (let i = 0; i < b.length;) {
    let end = i;
    while (end < b.length && fresh[end] === fresh[i]) end++;
    const piece = b.slice(i, end).join("");
    parts.push(fresh[i] ? h("mark", {}, piece) : piece);
    i = end;
  }
  return parts;
}

// The teacher's prompt: messages that the policy also saw are quiet, and folded in long ones; the rest shows what is new.
function teacherView(turn) {
  const own = turn.messages.map(([role, text]) => ({ role, text, used: false }));
  const pairs = turn.teacher.map(([role, text]) => {
    const same = own.find((message) => !message.used && message.role === role && message.text === text);
    if (same) same.used = true;
    return { role, text, same };
  });
  const view = ({ role, text, same }) => {
    if (same) return bubble(role, texts[text], "same");
    const likely = own.filter((message) => !message.used && message.role === role).at(-1);
    if (!likely) return bubble(role, h("mark", {}, texts[text]), "new");
    likely.used = true;
    return bubble(role, marked(texts[likely.text], texts[text]), "changed");
  };
  const parts = [];
  for (let i = 0; i < pairs.length;) {
    let end = i + 1;
    while (end < pairs.length && !pairs[end].same === !pairs[i].same) end++;
    const run = pairs.slice(i, end).map(view);
    parts.push(pairs[i].same && run.length > 2
      ? h("details", { class: "earlier" }, h("summary", {}, `${plural(run.length, "message")} as the policy saw them`), run) : run);
    i = end;
  }
  return parts;
}

function feedbackCard(item) {
  const severity = ["info", "warning", "error", "fatal"].includes(item.severity) ? item.severity : "none";
  const seen = { policy: "seen by the policy", teacher: "for the teacher only", log: "for the log only" }[item.visibility];
  return h("li", { class: `feedback ${severity}` },
    h("p", { class: "labels" }, h("b", {}, String(item.kind || "feedback").replaceAll("_", " ")),
      item.severity && h("span", { class: "label severity" }, item.severity),
      seen && h("span", { class: "label" }, seen), item.source && h("span", { class: "label" }, item.source),
      item.reveals_reference && h("span", { class: "label leak" }, "reveals reference")),
    h("div", { class: "content", dir: "auto" }, texts[item.text]));
}

const block = (name, title, ...content) => h("section", { class: `block ${name}` }, h("h4", {}, title), content);

function gapWords(turn) {
  const values = turn.tokens.map((token) => token[3]).filter(known);
  if (!values.length) return plural(turn.tokens.length, "token");
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return `${plural(turn.tokens.length, "token")}, mean gap ${number(mean)} nats`;
}

// How many messages at the start were on screen already with the turns before: all up to the last action. A history
// that leaves turns out begins with other words, but not with other events.
function alreadyShown(turn, before) {
  return before ? turn.messages.findLastIndex(([role]) => role === "assistant") + 1 : 0;
}

const JUDGED = { skip: "not taught", weak: "taught a little", strong: "taught" };

// What the judge made of a turn.
function labelBadge(turn) {
  if (typeof turn.label !== "string") return null;
  const about = Object.hasOwn(JUDGED, turn.label) ? `the judge: ${JUDGED[turn.label]}` : null;
  return h("span", { class: "badge judged", "data-label": turn.label, title: about }, turn.label);
}

const actor = (turn) => typeof turn.source === "string" && turn.source !== "policy" && h("span", { class: "badge expert" }, turn.source);

// The first thing that was said against a turn, else the first thing that was said of it.
function remark(turn) {
  const items = turn.feedback.filter((item) => item.kind !== "reference");
  const item = items.find((one) => one.severity !== "info") || items[0];
  return item ? texts[item.text].split("\n", 1)[0] : "";
}

// The words of an action without its reasoning.
const spoken = (turn) => texts[turn.text].split("</think>").at(-1).trim().replace(/\s+/g, " ");

// The episode at a glance: a line a turn, each the way to the turn in full.
function outline(attempt) {
  const go = (i) => {
    const turn = document.querySelectorAll(".detail .turn")[i];
    turn.scrollIntoView({ block: "start" });
    turn.querySelector("h3").focus({ preventScroll: true });
  };
  return h("ol", { class: "outline", "aria-label": "The turns" }, attempt.turns.map((turn, i) =>
    h("li", {}, h("button", { type: "button", class: "line", onclick: () => go(i) },
      h("span", { class: "n" }, i + 1), h("span", { class: "act", dir: "auto" }, spoken(turn) || "(nothing)"),
      h("span", { class: "marks" }, actor(turn), labelBadge(turn), known(turn.reward) && turn.reward !== 0 && rewardBadge(turn.reward)),
      h("span", { class: "remark", dir: "auto" }, remark(turn))))));
}

const teaching = data.attempts.list.some((attempt) => attempt.turns.some((turn) => turn.teacher));

function turnView(attempt, i) {
  const turn = attempt.turns[i];
  const several = attempt.turns.length > 1;
  const shown = alreadyShown(turn, attempt.turns[i - 1]);
  const bubbles = (list) => list.map(([role, text]) => bubble(role, texts[text]));
  const differs = turn.teacher && turn.teacher.length > 0;
  const paid = known(turn.reward) && (turn.reward !== 0 || i === attempt.turns.length - 1);
  return h("article", { class: "turn", "aria-label": `Turn ${i + 1}` },
    several && h("h3", { tabindex: -1 }, `Turn ${i + 1}`, h("span", { class: "quiet" }, ` of ${attempt.turns.length} `),
      actor(turn), labelBadge(turn), paid && rewardBadge(turn.reward),
      turn.finish_reason === "length" && h("span", { class: "badge bad" }, "cut off")),
    texts[turn.reason] && h("p", { class: "verdict" }, h("span", { class: "quiet" }, "The judge: "), h("span", { dir: "auto" }, texts[turn.reason])),
    block("prompt", shown ? "What the policy saw next" : "What the policy saw",
      shown > 0 && h("details", { class: "earlier" }, h("summary", {}, plural(shown, "earlier message")), bubbles(turn.messages.slice(0, shown))),
      bubbles(turn.messages.slice(shown))),
    block("action", h("span", {}, actor(turn) ? `What the ${turn.source} wrote ` : "What it wrote ", turn.tokens.length > 0 && h("span", { class: "quiet" }, gapWords(turn))),
      turn.tokens.length > 0 ? [tokenView(turn), turn.tokens.some((token) => known(token[3])) && legend(),
        h("details", { class: "plain" }, h("summary", {}, "As plain text"), h("pre", { class: "text", dir: "auto" }, texts[turn.text]))]
        : texts[turn.text] ? h("pre", { class: "text", dir: "auto" }, texts[turn.text]) : h("p", { class: "empty" }, "Nothing.")),
    turn.advice !== null && turn.advice !== turn.text && block("advice", "What the expert would have done", h("pre", { class: "text", dir: "auto" }, texts[turn.advice])),
    turn.feedback.length > 0 && block("answer", "What came back", h("ul", {}, turn.feedback.map(feedbackCard))),
    differs
      ? block("teacher", h("span", {}, "What the teacher saw ", h("span", { class: "quiet" }, "with what the policy did not see ", h("mark", {}, "marked"))), teacherView(turn))
      : teaching && block("teacher", "What the teacher saw", h("p", { class: "empty" }, "Nothing was taught here.")));
}

function attemptView(attempt, go) {
  const here = (number) => data.attempts.list.findIndex((other) =>
    other.step === attempt.step && other.group === attempt.group && other.attempt === number);
  const chips = attempt.siblings.map(([number, reward]) => {
    const at = here(number);
    const self = number === attempt.attempt;
    return h("button", { type: "button", class: "chip", "aria-current": self ? "true" : null, disabled: at < 0,
      title: at < 0 ? "not in this page" : null, onclick: () => go(at) }, `${number} `, rewardBadge(reward, reward !== null));
  });
  const task = attempt.task || {};
  const taskName = [task.id, task.split].filter((part) => part !== undefined && part !== null && part !== "").join(", ");
  return [
    h("header", { class: "attempt-head" },
      h("h3", { tabindex: -1 }, `Step ${attempt.step}, group ${attempt.group}, attempt ${attempt.attempt}`),
      h("p", { class: "labels" }, rewardBadge(attempt.reward, attempt.scored),
        attempt.stop_reason && h("span", { class: "label" }, String(attempt.stop_reason).replaceAll("_", " ")),
        taskName && h("span", { class: "label task" }, `task ${taskName}`)),
      chips.length > 1 && h("nav", { class: "siblings", "aria-label": "Attempts of the same group" }, h("span", { class: "quiet" }, "Siblings"), chips)),
    attempt.turns.length > 2 && outline(attempt),
    ...attempt.turns.map((_, i) => turnView(attempt, i)),
  ];
}
