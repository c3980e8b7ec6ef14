// The list of attempts, its filters, and the way from one attempt to the next.

class Browser {
  constructor(list) {
    this.list = list;
    this.shown = list.map((_, i) => i);
    this.at = -1;
    this.items = list.map((attempt, i) => this.item(attempt, i));
    this.rail = h("ol", { class: "rail", "aria-label": "Attempts", role: "listbox", tabindex: 0 }, this.items);
    this.detail = h("div", { class: "detail", "aria-label": "The chosen attempt", role: "region" });
    const steps = [...new Set(list.map((attempt) => attempt.step))];
    const option = (value, name) => h("option", { value }, name);
    this.step = h("select", { id: "filter-step" }, option("", "all"), steps.map((step) => option(step, step)));
    this.reward = h("select", { id: "filter-reward" }, option("", "all"), option("success", "success, 1 or more"),
      option("failure", "failure, below 1"), list.some((attempt) => !scored(attempt)) && option("unscored", "not scored"));
    this.feedback = h("input", { type: "checkbox", id: "filter-feedback" });
    this.query = h("input", { type: "search", id: "filter-text", placeholder: "prompt, attempt or feedback", autocomplete: "off" });
    this.filters = h("form", { class: "filters", role: "search", "aria-label": "Filter the attempts", onsubmit: (e) => e.preventDefault() },
      h("label", {}, h("span", {}, "Step"), this.step), h("label", {}, h("span", {}, "Reward"), this.reward),
      h("label", { class: "wide" }, h("span", {}, "Text"), this.query),
      h("label", { class: "check" }, this.feedback, h("span", {}, "has feedback")));
    for (const change of ["input", "change"]) this.filters.addEventListener(change, () => this.filter());
    this.rail.addEventListener("keydown", (event) => this.key(event, { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1 }));
    document.addEventListener("keydown", (event) => {
      const free = event.target === document.body || this.detail.contains(event.target) || event.target === $("attempts");
      if (free && !event.target.closest("select, input, .scroll")) this.key(event, { ArrowLeft: -1, ArrowRight: 1 });
    });
    window.addEventListener("hashchange", () => this.follow());
    $("browser").append(this.filters, h("div", { class: "panes" }, this.rail, this.detail));
  }

  item(attempt, i) {
    const said = attempt.turns.map((turn) => texts[turn.text]).join(" ⏎ ").slice(0, 160);
    return h("li", { role: "option", id: `item-${i}`, "aria-selected": "false", onclick: () => this.go(i) },
      h("span", { class: "line" }, rewardBadge(attempt.reward, attempt.scored),
        h("span", { class: "where" }, `step ${attempt.step} · group ${attempt.group} · attempt ${attempt.attempt}`)),
      h("span", { class: "said", dir: "auto" }, said || "(nothing)"));
  }

  haystack(attempt) {
    if (!attempt.haystack) {
      const of = (turn) => [turn.text, ...turn.messages.map((message) => message[1]), turn.reason, ...turn.feedback.map((item) => item.text)];
      const task = attempt.task ? [String(attempt.task.id)] : [];
      attempt.haystack = [...task, ...new Set(attempt.turns.flatMap(of))].map((n) => (typeof n === "number" ? texts[n] : n)).join("\n").toLowerCase();
    }
    return attempt.haystack;
  }

  matches(attempt) {
    if (this.step.value !== "" && attempt.step !== Number(this.step.value)) return false;
    if (this.reward.value === "success" && !succeeded(attempt)) return false;
    if (this.reward.value === "failure" && (!scored(attempt) || succeeded(attempt))) return false;
    if (this.reward.value === "unscored" && scored(attempt)) return false;
    if (this.feedback.checked && !attempt.turns.some((turn) => turn.feedback.length)) return false;
    return this.haystack(attempt).includes(this.query.value.toLowerCase());
  }

  filter() {
    this.shown = this.list.flatMap((attempt, i) => (this.matches(attempt) ? [i] : []));
    const kept = new Set(this.shown);
    this.items.forEach((item, i) => { item.hidden = !kept.has(i); });
    this.tell();
    if (this.shown.length && !kept.has(this.at)) this.select(this.shown[0]);
  }

  tell() {
    const { total, list } = data.attempts;
    const some = this.shown.length < list.length ? `${count(this.shown.length)} of ${plural(list.length, "attempt")}` : plural(list.length, "attempt");
    const out = total - list.length;
    $("attempts-count").textContent = out > 0 ? `${some}, sampled over the steps; ${count(out)} more were left out of this page` : some;
  }

  key(event, moves) {
    const ends = { Home: 0, End: this.shown.length - 1 };
    const move = moves[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || !this.shown.length) return;
    if (event.key === "Enter" && event.currentTarget === this.rail) {
      this.detail.querySelector("h3").focus();
      return;
    }
    if (!move && !(event.currentTarget === this.rail && event.key in ends)) return;
    event.preventDefault();
    event.stopPropagation();
    const place = this.shown.indexOf(this.at);
    const next = move ? Math.min(this.shown.length - 1, Math.max(0, place + move)) : ends[event.key];
    this.go(this.shown[next]);
  }

  // Choose an attempt and remember it in the address.
  go(i) {
    this.select(i);
    const { step, group, attempt } = this.list[i];
    history.replaceState(null, "", `#attempt-${step}-${group}-${attempt}`);
  }

  select(i) {
    if (this.at >= 0) this.items[this.at].setAttribute("aria-selected", "false");
    this.at = i;
    const item = this.items[i];
    item.setAttribute("aria-selected", "true");
    this.rail.setAttribute("aria-activedescendant", item.id);
    const inside = this.detail.contains(document.activeElement);
    hideTip();
    this.detail.replaceChildren(...attemptView(this.list[i], (at) => this.go(at)));
    if (inside) this.detail.querySelector("h3").focus({ preventScroll: true });
    this.detail.scrollTop = 0;
    const [top, bottom] = [item.offsetTop, item.offsetTop + item.offsetHeight];
    if (top < this.rail.scrollTop) this.rail.scrollTop = top;
    else if (bottom > this.rail.scrollTop + this.rail.clientHeight) this.rail.scrollTop = bottom - this.rail.clientHeight;
  }

  follow() {
    const place = location.hash.match(/^#attempt-(\d+)-(\d+)-(\d+)$/);
    if (!place) return false;
    const [step, group, attempt] = place.slice(1).map(Number);
    const i = this.list.findIndex((one) => one.step === step && one.group === group && one.attempt === attempt);
    if (i < 0) return false;
    this.select(i);
    $("attempts").scrollIntoView();
    return true;
  }

  // Open on an attempt worth reading: a recent one that failed and was taught.
  open() {
    this.tell();
    if (this.follow()) return;
    const taught = this.list.findLastIndex((attempt) => !succeeded(attempt) && attempt.turns.some((turn) => turn.teacher));
    this.select(taught >= 0 ? taught : 0);
  }
}
