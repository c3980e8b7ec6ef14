"""The run report in a real browser: what a reader sees, and that hostile text does nothing."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from browsing import FITS, Browser, choose, chosen, css, listed, press, texts, until, visit
from test_report import HOSTILE, SCRIPT, SYSTEM, make_run

from agents.report import write_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "finished")
    write_report(run)
    return run


@pytest.fixture(scope="module")
def failed(finished: Path) -> tuple[str, dict[str, Any]]:
    """An attempt of two turns that failed: its place in the address, and its row."""
    rows = [json.loads(line) for line in (finished / "trajectories.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["reward"] == 0 and len(row["turns"]) == 2 and row["scored"])
    return f"#attempt-{row['step']}-{row['group']}-{row['attempt']}", row


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_says_nothing_to_the_console_and_fetches_nothing(
    browser: Browser, finished: Path, width: int, scheme: str
) -> None:
    visit(browser, finished, width=width, scheme=scheme)
    until(lambda: css(browser, "circle.point"))
    assert browser.execute_script(FITS)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    page = (finished / "report.html").as_uri()
    assert page in sent
    assert {url for url in sent if not url.startswith("data:")} == {page}


def test_the_policy_of_the_page_refuses_foreign_code_and_requests(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    refused = browser.execute_script("""
        const refused = (act) => { try { act(); return null; } catch (error) { return error.name; } };
        const script = document.createElement('script');
        const image = Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'});
        document.body.append(image);
        return [refused(() => { script.textContent = 'window.pwned = 1'; }),
                refused(() => { document.body.innerHTML += '<b>'; }),
                refused(() => { document.body.setAttribute('onclick', 'window.pwned = 2'); })];
    """)
    assert refused == ["TypeError"] * 3
    assert any("img-src" in entry["message"] for entry in until(lambda: browser.get_log("browser")))


def test_hostile_text_is_inert_and_shown_to_the_letter(browser: Browser, finished: Path) -> None:
    visit(browser, finished, "#attempt-1-0-0")
    text = "\n".join(HOSTILE.values()).replace("\ud83d", "\ufffd")
    assert chosen(browser) == "Step 1, group 0, attempt 0"
    assert texts(browser, ".prompt .content") == [text, text]
    assert texts(browser, "pre.text") == [text]
    assert texts(browser, ".feedback .content") == [text]
    assert texts(browser, ".teacher .content") == [text + SCRIPT]
    assert texts(browser, ".teacher mark")[-1].endswith(SCRIPT)
    assert texts(browser, ".tokens .token") == [v.replace("\ud83d", "\ufffd") for v in HOSTILE.values()]
    assert SCRIPT in texts(browser, ".prompt .role")
    assert browser.execute_script("return [window.pwned, document.querySelectorAll('img').length]") == [
        None,
        0,
    ]
    assert browser.execute_script(FITS)


def test_what_cannot_be_seen_is_marked(browser: Browser, finished: Path) -> None:
    visit(browser, finished, "#attempt-1-0-0")
    code = "return [...document.querySelectorAll('.tokens .ws.code')].map(e => e.dataset.code)"
    marks = browser.execute_script(code)
    assert {"U+2028", "U+2029", "U+0007", "U+0000", "U+200B", "U+202E", "U+202C"} <= set(marks)
    assert css(browser, ".tokens .ws.sp")


def test_the_headline_gives_both_ends_with_their_intervals(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    assert texts(browser, "h1") == ["sdpo on rfenvs/ToolCall"]
    assert texts(browser, ".result h2") == ["Held-out success, temperature 1", "Held-out success, greedy"]
    assert texts(browser, ".result .big") == ["10%", "77%", "16%", "83%"]
    assert texts(browser, ".result .range")[:2] == ["3% to 17%", "70% to 84%"]


def test_every_curve_has_a_point_for_each_measurement(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    until(lambda: css(browser, "circle.point"))
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    until(lambda: css(browser, "[data-key=grad_norm] circle"))

    def points(key: str, series: int = 0) -> int:
        return len(css(browser, f"[data-key='{key}'] .series-{series} circle.point"))

    assert (points("success-test", 0), points("success-test", 1)) == (7, 7)
    assert len(css(browser, "[data-key='success-test'] path.band")) == 2
    names = ("reward", "loss", "teacher_gap", "entropy", "length", "zero_variance", "taught", "truncated")
    assert {name: points(name) for name in names} == dict.fromkeys(names, 6)
    assert points("grad_norm") == 5  # one was NaN
    assert len(css(browser, "[data-key=grad_norm] path.line")) == 2
    assert len(css(browser, ".scroll tbody tr")) == 7


def test_alarms_are_told_and_marked_where_they_belong(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    until(lambda: css(browser, "g.alarm"))
    assert texts(browser, "#alarms li") == ["zero variance step 3 Half of the groups had one reward. 0.52, limit 0.5"]
    marked = "return [...document.querySelectorAll('g.alarm')].map(e => e.closest('figure').dataset.key)"
    assert browser.execute_script(marked) == ["success-test", "zero_variance"]


def test_the_horizontal_axis_turns_to_generations(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    until(lambda: css(browser, "circle.point"))
    plot = browser.find_element("css selector", "[data-key='success-test'] svg")
    browser.execute_script("arguments[0].focus()", plot)
    press(browser, "ARROW_RIGHT")
    press(browser, "ARROW_RIGHT")
    assert texts(browser, "[data-key='success-test'] .where") == ["step 1, 8 generations"]
    assert "Step 1," not in chosen(browser)  # the keys of the figure do not move the attempts
    browser.execute_script("document.querySelector('#axis input[value=generations]').click()")
    ticks = texts(browser, "[data-key='success-test'] .tick")
    assert "40" in ticks


def test_filters_change_the_list(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    rows = [json.loads(line) for line in (finished / "trajectories.jsonl").read_text().splitlines()]
    scored = [row for row in rows if row["scored"]]
    assert len(listed(browser)) == len(rows) == 48
    choose(browser, "filter-reward", "success")
    assert len(listed(browser)) == sum(row["reward"] >= 1 for row in scored)
    choose(browser, "filter-reward", "failure")
    assert len(listed(browser)) == sum(row["reward"] < 1 for row in scored)
    choose(browser, "filter-reward", "unscored")
    assert listed(browser) == ["step 1 · group 0 · attempt 1"]
    choose(browser, "filter-reward", "")
    choose(browser, "filter-step", "2")
    assert len(listed(browser)) == 8
    assert texts(browser, "#attempts-count") == ["8 of 48 attempts"]
    browser.find_element("id", "filter-feedback").click()
    blamed = [row for row in rows if row["step"] == 2 and any(turn["feedback"] for turn in row["turns"])]
    assert len(listed(browser)) == len(blamed)
    assert chosen(browser).startswith("Step 2,")


def test_search_looks_into_prompts_attempts_and_feedback(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    field = browser.find_element("id", "filter-text")
    for query, where in (
        ("NO TOOL NAMED", "feedback"),
        ("onerror='window", "attempt"),
        ("reply with one", "prompt"),
    ):
        field.clear()
        field.send_keys(query)
        assert listed(browser), where
    field.clear()
    field.send_keys("onerror='window")
    assert listed(browser) == ["step 1 · group 0 · attempt 0"]
    field.send_keys(" nothing has this")
    assert listed(browser) == []
    assert texts(browser, "#attempts-count") == ["0 of 48 attempts"]


def test_an_attempt_shows_prompt_answer_feedback_and_the_teachers_view(
    browser: Browser, finished: Path, failed: tuple[str, dict[str, Any]]
) -> None:
    place, row = failed
    visit(browser, finished)
    wanted = f"step {row['step']} · group {row['group']} · attempt {row['attempt']}"
    next(item for item in css(browser, ".rail li") if wanted in item.text).click()
    assert browser.current_url.endswith(place)
    first, second = row["turns"]
    assert texts(browser, ".turn:nth-of-type(1) .prompt .content") == [m["content"] for m in first["messages"]]
    assert texts(browser, ".turn:nth-of-type(1) .tokens") == ["".join(t["text"] for t in first["tokens"])]
    assert texts(browser, ".turn:nth-of-type(1) pre.text") == [first["text"]]
    assert texts(browser, ".turn:nth-of-type(1) .feedback .content") == [first["feedback"][0]["text"]]
    assert texts(browser, ".turn:nth-of-type(1) .teacher .same .content") == [SYSTEM]
    question, taught = first["messages"][1]["content"], first["teacher_messages"][1]["content"]
    assert texts(browser, ".turn:nth-of-type(1) .teacher .changed .content") == [taught]
    assert "".join(texts(browser, ".turn:nth-of-type(1) .teacher .changed mark")) == taught.removeprefix(question)
    # the second turn folds what the first one showed
    assert texts(browser, ".turn:nth-of-type(2) .earlier summary") == ["3 earlier messages"]
    assert texts(browser, ".turn:nth-of-type(2) .prompt > .bubble .content") == [second["messages"][3]["content"]]
    assert len(texts(browser, ".turn:nth-of-type(2) .feedback")) == 2
    assert texts(browser, ".label.leak") == ["reveals reference"]
    assert texts(browser, ".attempt-head .badge")[0] == "0"
    assert texts(browser, ".attempt-head .label") == ["completed", f"task {row['task']['id']}, train"]


def test_siblings_are_one_click_apart(browser: Browser, finished: Path, failed: tuple[str, dict[str, Any]]) -> None:
    place, row = failed
    visit(browser, finished, place)
    chips = css(browser, ".siblings .chip")
    assert len(chips) == 4
    assert [chip.get_attribute("aria-current") for chip in chips].index("true") == row["attempt"]
    other = (row["attempt"] + 1) % 4
    chips[other].click()
    assert chosen(browser) == f"Step {row['step']}, group {row['group']}, attempt {other}"


def channels(color: str) -> list[float]:
    """Red, green, blue from 0 to 1 of a computed colour, however it is written."""
    numbers = [float(n) for n in re.findall(r"[\d.]+", color.replace("srgb", ""))][:3]
    return [n / 255 for n in numbers] if color.startswith("rgb") else numbers


def luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_redder_the_token_the_more_the_teacher_disagreed_and_it_stays_readable(
    browser: Browser, finished: Path, scheme: str
) -> None:
    seen = {}
    visit(browser, finished, scheme=scheme)
    choose(browser, "filter-reward", "failure")
    for item in css(browser, ".rail li:not([hidden])")[:12]:
        item.click()
        for gap, kind, color, ink in browser.execute_script("""
            return [...document.querySelectorAll('.tokens .token[data-gap]')].map(e => [Number(e.dataset.gap),
                e.className, getComputedStyle(e).backgroundColor, getComputedStyle(e).color])"""):
            seen[gap] = (kind, color)
            lighter, darker = sorted([luminance(color), luminance(ink)], reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (gap, color, ink)

    def redness(color: str) -> float:
        red, green, blue = channels(color)
        return red - (green + blue) / 2

    differing = [redness(color) for _, (kind, color) in sorted(seen.items()) if "differs" in kind]
    agreeing = {color for kind, color in seen.values() if "agrees" in kind}
    assert len(differing) > 20
    assert differing == sorted(differing)
    assert differing[-1] > 2 * differing[0]
    assert len(agreeing) == 1
    assert redness(agreeing.pop()) < 0
    largest_agreement = max(gap for gap, (kind, _) in seen.items() if "agrees" in kind)
    assert largest_agreement < min(gap for gap, (kind, _) in seen.items() if "differs" in kind)


def test_hovering_a_token_shows_both_probabilities_and_the_alternatives(
    browser: Browser, finished: Path, failed: tuple[str, dict[str, Any]]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    visit(browser, finished, failed[0])
    token = failed[1]["turns"][0]["tokens"][0]
    span = browser.find_element("css selector", ".tokens .token")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", span)
    time.sleep(0.1)
    assert not browser.find_element("id", "tip").is_displayed()
    ActionChains(browser).move_to_element(span).perform()
    until(lambda: browser.find_element("id", "tip").is_displayed())
    facts = texts(browser, "#tip dd")
    assert facts[0].startswith(f"{token['logp']:.3g}".replace("-", "−"))
    assert facts[1].startswith(f"{token['teacher_logp']:.3g}".replace("-", "−"))
    assert facts[2] == f"{token['gap']:.3g} nats"
    assert texts(browser, "#tip tbody th") == ["weather", token["text"], "\n"]
    assert texts(browser, "#tip tbody tr:first-child .num") == ["71%", "11%"]
    assert texts(browser, "#tip tr.sampled th") == [token["text"]]
    assert span.get_attribute("aria-describedby") == "tip"
    press(browser, "ESCAPE")
    assert not browser.find_element("id", "tip").is_displayed()


def test_the_keyboard_reaches_tokens_and_attempts(
    browser: Browser, finished: Path, failed: tuple[str, dict[str, Any]]
) -> None:
    visit(browser, finished, failed[0])
    before = chosen(browser)
    span = browser.find_element("css selector", ".tokens .token")
    browser.execute_script("arguments[0].focus({preventScroll: true})", span)
    assert browser.find_element("id", "tip").is_displayed()
    press(browser, "ARROW_RIGHT")
    assert texts(browser, "#tip .tip-token") == [failed[1]["turns"][0]["tokens"][1]["text"]]
    assert chosen(browser) == before
    browser.execute_script("document.activeElement.blur()")
    press(browser, "ARROW_RIGHT")
    after = chosen(browser)
    assert after != before
    press(browser, "ARROW_LEFT")
    assert chosen(browser) == before
    browser.execute_script("document.querySelector('.rail').focus()")
    press(browser, "ARROW_DOWN")
    assert chosen(browser) == after
    press(browser, "END")
    assert chosen(browser) == "Step 5, group 1, attempt 3"
    press(browser, "HOME")
    assert chosen(browser) == "Step 0, group 0, attempt 0"
    field = browser.find_element("id", "filter-text")
    field.send_keys("o")
    press(browser, "ARROW_LEFT")
    assert chosen(browser) == "Step 0, group 0, attempt 0"


def test_the_configuration_is_a_table_that_folds(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    assert texts(browser, ".group summary")[:2] == ["run 4 settings", "env 2 settings"]
    rows = dict(zip(texts(browser, ".settings th"), texts(browser, ".settings td"), strict=True))
    assert (rows["lr"], rows["betas"], rows["warmup"]) == ("0.00002", "[0.9,0.95]", "not set")
    assert [group.get_attribute("open") for group in css(browser, ".group")] == [
        "true",
        None,
        None,
        None,
        None,
    ]


def test_an_unfinished_run_shows_what_there_is(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=3)
    (run / "summary.json").unlink()
    (run / "trajectories.jsonl").write_text("")
    write_report(run)
    visit(browser, run)
    assert texts(browser, ".unfinished")[0].startswith("Run unfinished. 3 steps so far. The numbers")
    assert texts(browser, ".result .figure-of > .quiet")[:2] == ["before", "so far"]
    assert texts(browser, "#browser") == ["No attempt has been recorded."]
    until(lambda: css(browser, "[data-key=loss] circle.point"))
    assert browser.get_log("browser") == []


def test_an_empty_run_directory_makes_a_page(browser: Browser, tmp_path: Path) -> None:
    write_report(tmp_path)
    visit(browser, tmp_path)
    assert texts(browser, "h1") == ["Training run"]
    assert texts(browser, ".unfinished") == ["Run unfinished. Nothing was measured yet."]
    assert texts(browser, "#figures") == ["No step has been logged yet."]
    assert browser.get_log("browser") == []


def test_attempts_left_out_are_counted_and_their_siblings_are_still_listed(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=30, groups=4, size=8, hostile=False)
    write_report(run)
    visit(browser, run)
    said = "400 attempts, sampled over the steps; 560 more were left out of this page"
    assert texts(browser, "#attempts-count") == [said]
    choose(browser, "filter-step", "7")
    css(browser, ".rail li:not([hidden])")[0].click()
    assert len(css(browser, ".siblings .chip")) == 8
    assert css(browser, ".siblings .chip:disabled")
