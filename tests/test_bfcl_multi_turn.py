"""BFCL multi-turn: episodes with a user, the public rule for passing, and what the environment says."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bfcl_multi_turn_files import DATA, needs_data
from hypothesis import given, settings
from hypothesis import strategies as st

import rfenvs
from rfenvs.envs.bfcl_apis import APIS
from rfenvs.envs.bfcl_multi_turn import BFCLMultiTurnEnv, read_message
from rfenvs.envs.bfcl_multi_turn_data import KNOWN_BAD, SPEC, load
from rfenvs.graders.tool_calls import write_call
from rfenvs.rows import DataError
from rfenvs.validation import validate

ID = "rfenvs/BFCL-MultiTurn-v0"
SAMPLE = {"data": "sample"}


def start(name: str, **kwargs: Any) -> tuple[BFCLMultiTurnEnv, str, dict[str, Any]]:
    env = BFCLMultiTurnEnv(data="sample", **kwargs)
    observation, info = env.reset(options={"task_id": f"sample_multi_turn_{name}"})
    return env, observation, info


def play(env: BFCLMultiTurnEnv, *actions: str) -> list[tuple[str, float, bool, bool, dict[str, Any]]]:
    return [env.step(action) for action in actions]


def codes(info: dict[str, Any]) -> list[str]:
    return [entry["data"]["code"] for entry in info["feedback"]]


class TestAnEpisode:
    def test_shows_the_tools_and_the_first_request(self) -> None:
        _, observation, info = start("garden_notes")
        assert observation.endswith("User: Which files, hidden ones included, lie in the folder where we are?")
        assert json.dumps(info["tools"][0], ensure_ascii=False) in observation
        assert {tool["name"] for tool in info["tools"]} == set(APIS["GorillaFileSystem"].tools)

    def test_can_leave_the_tools_to_the_agent(self) -> None:
        _, observation, info = start("garden_notes", show_tools=False)
        assert '"parameters"' not in observation
        assert info["tools"]

    def test_goes_through_the_requests_one_by_one(self) -> None:
        env, *_ = start("garden_notes")
        steps = play(
            env,
            "ls(a=True)",
            "There are two.",
            'cd(folder="garden"); cat(file_name="peas.txt")',
            "",
            'mkdir(dir_name="old")',
            'mv(source="beans.txt", destination="old")',
            "Done.",
        )
        assert [observation for observation, *_ in steps] == [
            '{"current_directory_content": ["garden", ".plan"]}',
            "Go into 'garden' and show me what 'peas.txt' says.",
            '{"current_working_directory": "garden"}\n{"file_content": "Sow in March.\\nStake the rows."}',
            "Make a folder 'old' there and move 'beans.txt' into it.",
            "null",
            "{\"result\": \"'beans.txt' moved to 'old/beans.txt'\"}",
            "",
        ]
        assert [reward for _, reward, *_ in steps] == [0.0] * 6 + [1.0]
        assert [terminated for _, _, terminated, *_ in steps] == [False] * 6 + [True]
        info = steps[-1][4]
        assert info["feedback"] == []
        assert info["metrics"] == {"user_turns": 3, "user_turns_passed": 1.0, "calls": 5, "tool_errors": 0}

    def test_a_result_of_an_earlier_turn_counts(self) -> None:
        env, *_ = start("garden_notes")
        steps = play(
            env, 'ls(a=True)\ncd(folder="garden")\ncat(file_name="peas.txt")', "x", "pwd()", "x",
            'mkdir(dir_name="old")\nmv(source="beans.txt", destination="old")', "x",
        )  # fmt: skip
        assert steps[-1][1] == 1.0

    def test_a_request_that_only_chats_needs_no_calls(self) -> None:
        env, *_ = start("cool_down")
        gold = env.gold_actions(env.get_task(env.task_index("train", "sample_multi_turn_cool_down")))
        assert gold.count("Done.") == 3
        assert len(gold) == 5
        assert play(env, *gold)[-1][1] == 1.0

    def test_ends_with_the_first_failed_turn_or_plays_on(self) -> None:
        env, *_ = start("unit_homework")
        _, reward, terminated, _, info = env.step("3500 metres.")
        assert (reward, terminated, codes(info)) == (0.0, True, ["no_calls", "missing_results"])
        env, *_ = start("unit_homework", stop_early=False)
        steps = play(env, "3500 metres.", "divide(a=3500, b=70)", "50", "power(base=2, exponent=10)", "1024")
        assert [terminated for _, _, terminated, *_ in steps] == [False] * 4 + [True]
        assert steps[0][0] == "Divide that by 70."
        assert steps[-1][1] == 0.0
        assert codes(steps[-1][4]) == ["earlier_turn"]
        assert steps[-1][4]["metrics"]["user_turns_passed"] == pytest.approx(2 / 3)

    def test_ends_where_one_request_takes_too_many_messages(self) -> None:
        env, *_ = start("garden_notes")
        steps = play(env, *["ls()"] * 21)
        assert [terminated for _, _, terminated, *_ in steps] == [False] * 20 + [True]
        assert codes(steps[-1][4]) == ["too_many_messages"]

    def test_runs_out_of_actions(self) -> None:
        env, *_ = start("garden_notes", max_turns=2)
        *_, truncated, info = play(env, "ls()", "ls()")[-1]
        assert truncated
        assert info["stop_reason"] == "max_turns"
        env, *_ = start("garden_notes", max_turns=1)
        _, _, terminated, _, info = env.step("ls()")
        assert terminated
        assert codes(info) == ["unfinished"]

    def test_two_environments_and_two_episodes_share_no_state(self) -> None:
        first, *_ = start("film_night")
        second, *_ = start("film_night")
        post = 'authenticate_twitter(username="cinema_club", password="reel99")\npost_tweet(content="x")'
        mention = 'mention(tweet_id=1, mentioned_usernames=["@a"])'
        play(first, post, mention, 'post_tweet(content="y")')
        assert json.loads(first.step("get_tweet(tweet_id=2)")[0])["mentions"] == []
        assert '"error"' in second.step("get_tweet(tweet_id=1)")[0]
        first.reset(options={"task_id": "sample_multi_turn_film_night"})
        assert '"error"' in first.step("get_tweet(tweet_id=1)")[0]

    def test_a_result_is_what_the_tool_gave_when_it_was_called(self) -> None:
        env, *_ = start("watchlist_care")
        calls = 'trading_login(username="a", password="b")\nget_watchlist()\nremove_stock_from_watchlist(symbol="TSLA")'
        assert env.step(calls)[0].splitlines()[1] == '{"watchlist": ["TSLA", "ZETA"]}'

    def test_threads_play_alike(self) -> None:
        results: list[list[Any]] = [[] for _ in range(4)]

        def run(number: int) -> None:
            env = BFCLMultiTurnEnv(data="sample")
            for index in range(env.num_tasks("train")):
                env.reset(options={"task_index": index})
                results[number] += [step[:4] for step in play(env, *env.gold_actions(env.get_task(index)))]

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results[0]
        assert all(result == results[0] for result in results)


class TestFeedback:
    @pytest.mark.parametrize(
        ("action", "code", "text"),
        [
            ("lss()", "unknown_tool", 'NameError: there is no tool "lss"; did you mean "ls"?'),
            ("cat()", "missing", 'TypeError in cat: "file_name" is missing.'),
            ("pwd(a=1)", "unexpected", 'TypeError in pwd: there is no "a".'),
            ("cat(file_name=3)", "type", 'TypeError in cat: "file_name" must be a string, got the integer 3.'),
            ('cat(file_name="x")', "refused", "cat: 'x': No such file or directory"),
        ],
    )
    def test_errors_of_tools_are_results_and_items(self, action: str, code: str, text: str) -> None:
        env, *_ = start("garden_notes", leak_level=0)
        observation, *_, info = env.step(f"pwd()\n{action}\npwd()")
        assert json.loads(observation.splitlines()[1]) == {"error": text}
        assert len(observation.splitlines()) == 3
        (entry,) = info["feedback"]
        assert (entry["kind"], entry["data"], entry["text"]) == ("tool_error", {"code": code, "call": 1}, text)
        assert (entry["visibility"], entry["leak_level"]) == ("policy", 0)

    def test_a_call_that_cannot_be_read_leaves_the_turn_open(self) -> None:
        env, *_ = start("garden_notes")
        observation, _, terminated, _, info = env.step("Let me see.\nls(a=yes)")
        assert not terminated
        assert codes(info) == ["syntax"]
        assert observation == info["feedback"][0]["text"]
        assert env.step("ls(a=True)")[0].startswith("{")

    def test_says_which_attributes_differ_and_how_many_results_are_missing(self) -> None:
        env, *_ = start("buy_synex")
        play(env, 'get_symbol_by_name(name="Synex Solutions")\nget_stock_info(symbol="SYNX")', "345.67")
        play(env, 'place_order(order_type="Buy", symbol="SYNX", price=345.67, amount=11)')
        observation, _, terminated, _, info = env.step("Bought.")
        assert terminated
        assert observation == ""
        assert [entry["text"] for entry in info["feedback"]] == [
            "After user turn 2 the state of TradingBot is not as it should be: orders.",
            "User turn 2: 1 of 1 needed results never came.",
        ]
        assert {entry["visibility"] for entry in info["feedback"]} == {"teacher"}
        assert {entry["leak_level"] for entry in info["feedback"]} == {1}

    def test_higher_levels_name_the_tool_and_then_the_call(self) -> None:
        for level, expected in ((0, [None]), (2, ["no_calls", "missing_results", "missing_tools"]),
                                (3, ["no_calls", "missing_results", "missing_tools", "expected"])):  # fmt: skip
            env, *_ = start("unit_homework", leak_level=level)
            *_, info = env.step("Done.")
            assert [entry["data"].get("code") for entry in info["feedback"]] == expected
        assert info["feedback"][2]["data"]["tools"] == ["si_unit_conversion"]
        assert info["feedback"][3]["data"]["expected"] == 'si_unit_conversion(value=3.5, unit_in="km", unit_out="m")'

    @pytest.mark.parametrize("split", rfenvs.splits(ID))
    @pytest.mark.parametrize("level", [1, 3])
    def test_the_sample_validates(self, split: str, level: int) -> None:
        report = validate(ID, split, 40, leak_level=level, **SAMPLE)
        assert report.ok, str(report)
        assert report.tasks == 20

    def test_planting_reaches_every_hidden_text(self) -> None:
        env = BFCLMultiTurnEnv(data="sample")
        for index in range(env.num_tasks("train")):
            task = env.plant(env.get_task(index), "zq")
            texts = [v for turn in task.data["episode"].gold for call in turn for v in call.arguments.values()]
            assert all("zq" in text for text in texts if isinstance(text, str))
            assert "zq" in task.reference


class TestMessages:
    TOOLS = frozenset({"ls", "cat"})

    @pytest.mark.parametrize("text", ["", "Done.", "I called ls() for you.", "}{)(][", "cats (three)", "catalogue(x)"])
    def test_talk_is_no_call(self, text: str) -> None:
        assert read_message(text, self.TOOLS) == []

    @pytest.mark.parametrize("text", ["ls(", "Sure:\n`cat(x)`", "[ls(], cat()]", '{"name": "ls"}', "```\nls(a)\n```"])
    def test_calls_that_cannot_be_read_are_told_apart(self, text: str) -> None:
        message = read_message(text, self.TOOLS)
        assert isinstance(message, dict)
        assert message["kind"] == "format_error"

    def test_tags_around_json_are_ignored(self) -> None:
        call = '<tool_call>\n{"name": "cat", "arguments": {"file_name": 3}}\n</tool_call>'
        (read,) = read_message(f"{call}\n{call}", self.TOOLS)[:1]
        assert (read.name, read.arguments) == ("cat", {"file_name": 3})
        assert call[slice(*read.argument_spans["file_name"])] == "3"
        assert isinstance(read_message(f"I shall look.\n{call}", self.TOOLS), dict)

    def test_a_message_holds_a_bounded_number_of_calls(self) -> None:
        assert len(read_message("ls()\n" * 64, self.TOOLS)) == 64
        message = read_message("ls()\n" * 65, self.TOOLS)
        assert isinstance(message, dict)
        assert message["data"]["code"] == "too_many_calls"

    def test_long_junk_is_read_in_linear_time(self) -> None:
        assert read_message("\n" * 300_000 + "x", self.TOOLS) == []
        assert read_message("` " * 200_000, self.TOOLS) == []


class TestTheServices:
    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_no_call_raises_and_every_result_is_json(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(APIS)))
        scenarios = [e.scenario[name] for e in load("sample").episodes if name in e.apis]
        api = APIS[name].load(data.draw(st.sampled_from(scenarios)))
        words = st.one_of(st.text(max_size=8), st.sampled_from(["..", "/", "START", "2024-02-30", "USD", "JFK", "LAX"]))
        numbers = st.one_of(st.integers(-(10**300), 10**300), st.floats(allow_nan=False, allow_infinity=False))
        values = {
            "string": words, "integer": st.integers(-(10**300), 10**300), "number": numbers, "boolean": st.booleans(),
            "object": st.dictionaries(words, words, max_size=3),
        }  # fmt: skip

        def value(schema: dict[str, Any]) -> Any:
            kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
            if kind == "array":
                return data.draw(st.lists(values[schema["items"]["type"]], max_size=4))
            return data.draw(values[kind])

        for _ in range(6):
            tool = api.tools[data.draw(st.sampled_from(sorted(api.tools)))]
            arguments = {key: value(schema) for key, schema in tool["parameters"]["properties"].items()}
            json.dumps(api.call(tool["name"], arguments), allow_nan=False)

    def test_copies_cannot_exhaust_memory_or_the_stack(self) -> None:
        files = APIS["GorillaFileSystem"].load(
            {"root": {"r": {"contents": {"a": {"type": "directory", "contents": {}}}}}}
        )
        for _ in range(200):
            files.call("cp", {"source": "a", "destination": "b"})
            files.call("mv", {"source": "b", "destination": "a"})
        assert len(json.dumps(files.call("find", {}))) < 4_000_000
        for _ in range(200):
            files.call("mkdir", {"dir_name": "deep"})
            files.call("cd", {"folder": "deep"})
        assert files.call("mkdir", {"dir_name": "x"})["error"].endswith("File name too long")

    def test_a_copied_folder_is_a_copy(self) -> None:
        files = APIS["GorillaFileSystem"].load(
            {"root": {"r": {"contents": {"a": {"type": "directory", "contents": {}}}}}}
        )
        for name, arguments in [
            ("cp", {"source": "a", "destination": "b"}), ("cd", {"folder": "b"}), ("touch", {"file_name": "new"}),
            ("cd", {"folder": ".."}),
        ]:  # fmt: skip
            files.call(name, arguments)
        assert files.call("find", {}) == {"matches": ["./a", "./b", "./b/new"]}


class TestData:
    def row(self, tmp_path: Path, **changes: Any) -> Path:
        row = json.loads(SPEC.sample.read_text().splitlines()[4]) | changes
        path = tmp_path / "own.jsonl"
        path.write_text(json.dumps(row) + "\n")
        return path

    def test_a_file_of_ones_own(self, tmp_path: Path) -> None:
        env = BFCLMultiTurnEnv(data=str(self.row(tmp_path)))
        assert env.num_tasks("test") == 1
        assert env.get_task(0).source == "file"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"involved_classes": ["Fridge"]}, 'there is no service "Fridge"'),
            ({"ground_truth": [["mean([1])"]]}, "3 requests, but expected calls for 1"),
            ({"ground_truth": [["mean([1])"], ["rm('x')"], []]}, "names no tool"),
            ({"ground_truth": [["mean(__import__('os'))"], [], []]}, "cannot be read"),
            ({"question": [[{"role": "system", "content": "x"}]] * 3}, "messages of the user"),
        ],
    )
    def test_damage_is_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=r"own\.jsonl, line 1.*" + message):
            load(self.row(tmp_path, **changes))


@needs_data
class TestThePublicData:
    def test_every_expected_answer_passes(self) -> None:
        env = BFCLMultiTurnEnv(data=str(DATA))
        assert env.num_tasks("test") == 200
        for index in range(200):
            task = env.get_task(index)
            env.reset(options={"task_index": index})
            steps = play(env, *env.gold_actions(task))
            assert steps[-1][1] == 1.0, task.id

    def test_our_schemas_are_those_of_the_documentation(self) -> None:
        for name, tools in load(DATA).tools.items():
            own = APIS[name].tools
            assert own.keys() == {tool.schema["name"] for tool in tools}
            for tool in tools:
                documented, mine = tool.schema["parameters"], own[tool.schema["name"]]["parameters"]
                assert sorted(documented["required"]) == sorted(mine["required"])
                assert documented["properties"].keys() == mine["properties"].keys()
                for key, schema in documented["properties"].items():
                    kinds = mine["properties"][key]["type"]
                    assert schema["type"] in ([kinds] if isinstance(kinds, str) else kinds)
                    assert schema.get("default") == mine["properties"][key].get("default")

    def test_known_bad_episodes_fail_whoever_does_what_the_user_says(self) -> None:
        env = BFCLMultiTurnEnv(data=str(DATA))
        sorted_line = "Initial report content Unsorted data More unsorted data"
        difference = "- Introduction to History. Ancient civilizations.\n+ Advanced History. Modern world events."
        secret = '{"experiment": "Apollo Test", "result": "Success", "details": "All systems operational."}'
        as_asked: dict[int, tuple[str, dict[str, Any] | None]] = {
            4: ("post_tweet", {"content": sorted_line}),
            18: ("post_tweet", {"content": difference}),
            30: ("post_tweet", {"content": secret}),
            171: ("send_message", {"message": "Thank you for your efficient handling of my booking to Beijing. My trip "
                                   "is confirmed for June 15th from JFK to PEK in first class"}),
            173: ("close_ticket", None),
            176: ("create_ticket", {"description": "Due to unexpected changes in schedule, the flight from JFK to LAX "
                                    "on December 15, 2026, needs to be canceled immediately."}),
            178: ("create_ticket", {"priority": 1}),
            184: ("send_message", {"message": "Hi Sam, my travel plans have changed. I'll update you soon"}),
            187: ("create_ticket", {"description": "Thank you for contacting customer support. Your message has been "
                                    "received and we will get back to you shortly."}),
            188: ("authenticate_twitter", None),
        }  # fmt: skip
        assert {f"multi_turn_base_{number}" for number in as_asked} == KNOWN_BAD.keys()
        for number, (tool, changes) in as_asked.items():
            task = env.get_task(env.task_index("test", f"multi_turn_base_{number}"))
            assert task.flags == (f"known_bad: {KNOWN_BAD[task.id]}",)
            env.reset(options={"task_id": task.id})
            for turn in task.data["episode"].gold:
                calls = [
                    replace(call, arguments=call.arguments | (changes or {})) if call.name == tool else call
                    for call in turn
                    if call.name != tool or changes is not None
                ]
                message = "\n".join(write_call(call.name, call.arguments) for call in calls)
                _, reward, terminated, *_ = play(env, *([message] if message else []), "Done.")[-1]
                if terminated:
                    break
            assert terminated
            assert reward == 0.0, task.id

    @pytest.mark.slow
    def test_the_data_validate(self) -> None:
        for split in rfenvs.splits(ID):
            report = validate(ID, split, 200, data=str(DATA))
            assert report.ok, str(report)
            assert report.flagged == len(KNOWN_BAD)


def test_what_the_page_shows_is_what_its_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs/environments/bfcl-multi-turn.md").read_text(encoding="utf-8")
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    exec(compile(code, "bfcl-multi-turn.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == shown


def test_the_page_lists_the_episodes_that_cannot_be_won() -> None:
    page = (Path(__file__).parents[1] / "docs/environments/bfcl-multi-turn.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `(multi_turn_base_\d+)` \| (.*) \|$", page, re.MULTILINE)) == KNOWN_BAD
