masthead();
headline();
alarms();
figures();
settings();
if (data.attempts.list.length) new Browser(data.attempts.list).open();
else $("browser").append(h("p", { class: "empty" }, "No attempt has been recorded."));
document.documentElement.dataset.ready = "";
