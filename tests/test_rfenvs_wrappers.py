import re

import gymnasium
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

import rfenvs
from rfenvs import TokenizeFeedback
from rfenvs.wrappers import control_pattern, encode_plain, tokenizer_name

TEXTS = [
    "ValueError: the city is not what the request asks for.",
    "NameError: there is no tool im_end",
    "<|>_",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.add_tokens([AddedToken("<think>", special=False), AddedToken("im_end", special=False), "  "])
    return made


def controls(tokenizer: Tokenizer) -> set[int]:
    return {tokenizer.token_to_id(t) for t in ("<|im_start|>", "<|im_end|>", "<think>", "im_end")}


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    return pre_tokenizers_decode("".join(tokenizer.id_to_token(i) for i in ids))


def pre_tokenizers_decode(text: str) -> str:
    from tokenizers import decoders

    return decoders.ByteLevel().decode([text])


@pytest.mark.parametrize(
    "text",
    [
        "<|im_end|>",
        "a<|im_end|>b<|im_start|>c",
        "<<|im_end|>>",
        "<think>no</think>",
        "im_end",
        "<|im_end|><|im_end|>",
    ],
)
def test_literal_control_tokens_never_become_control_ids(tokenizer: Tokenizer, text: str) -> None:
    assert controls(tokenizer) & set(tokenizer.encode(text, add_special_tokens=False).ids)
    ids = encode_plain(tokenizer, text)
    assert not controls(tokenizer) & set(ids)
    assert decode(tokenizer, ids) == text


def test_plain_text_is_encoded_as_the_tokenizer_does(tokenizer: Tokenizer) -> None:
    for text in (*TEXTS[:1], "é  ✓"):
        assert encode_plain(tokenizer, text) == tokenizer.encode(text, add_special_tokens=False).ids


def test_the_wrapper_fills_every_item(tokenizer: Tokenizer) -> None:
    env = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0", feedback="expected"), tokenizer)
    _, info = env.reset(seed=1)
    assert info["feedback"] == []
    *_, info = env.step('call(name="<|im_end|>")<|im_end|>')
    assert len(info["feedback"]) == 2
    assert any("<|im_end|>" in entry["text"] for entry in info["feedback"])
    for entry in info["feedback"]:
        assert entry["tokenizer"] == tokenizer_name(tokenizer)
        assert not controls(tokenizer) & set(entry["token_ids"])
        assert decode(tokenizer, entry["token_ids"]) == entry["text"]


def test_ids_are_cached_per_text_but_handed_out_as_copies(tokenizer: Tokenizer) -> None:
    class Counting:
        calls = 0

        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            self.calls += 1
            return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    counting = Counting()
    env = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0"), counting)
    seen = []
    for number in range(3):
        if number == 2:
            env = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0"), counting)
        env.reset(options={"task_index": 0})
        *_, info = env.step("nonsense")
        seen.append(info["feedback"][0]["token_ids"])
        seen[-1].append(-1)
    assert counting.calls == 1
    assert seen[0] == seen[1] == seen[2]


def test_a_tokenizer_that_learns_a_control_token_is_another_one(tokenizer: Tokenizer) -> None:
    growing = Tokenizer.from_str(tokenizer.to_str())
    before = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0"), growing)
    growing.add_tokens([AddedToken("nonsense", special=True)])
    after = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0"), growing)
    assert after.tokenizer_name != before.tokenizer_name
    after.reset(seed=0)
    *_, info = after.step("nonsense")
    assert any("nonsense" in entry["text"] for entry in info["feedback"])
    assert growing.token_to_id("nonsense") not in info["feedback"][0]["token_ids"]


def test_names_tell_tokenizers_apart(tokenizer: Tokenizer) -> None:
    other = Tokenizer.from_str(tokenizer.to_str())
    assert tokenizer_name(other) == tokenizer_name(tokenizer)
    other.add_tokens(["new"])
    assert tokenizer_name(other) != tokenizer_name(tokenizer)

    class Named:
        name_or_path = "/somewhere/on/disk/tiny-model/"
        chat_template = "{{ messages }}"

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    assert re.fullmatch(r"tiny-model@[0-9a-f]{16}", tokenizer_name(Named()))


def test_transformers_tokenizers_work_too(tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    assert control_pattern(fast).search("x<|im_end|>")
    assert control_pattern(fast).search("x<think>")
    text = "stop <|im_end|> here"
    assert encode_plain(fast, text) == encode_plain(tokenizer, text)


def test_the_wrapped_environment_is_otherwise_unchanged(tokenizer: Tokenizer) -> None:
    plain, wrapped = gymnasium.make("rfenvs/ToolCall-v0"), None
    wrapped = TokenizeFeedback(gymnasium.make("rfenvs/ToolCall-v0"), tokenizer)
    assert plain.reset(seed=3) == wrapped.reset(seed=3)
    a, b = plain.step("junk"), wrapped.step("junk")
    assert a[:4] == b[:4]
    for entry in b[4]["feedback"]:
        entry.update(token_ids=None, tokenizer=None)
    assert a == b
    assert rfenvs.feedback_text(a[4]) == rfenvs.feedback_text(b[4])
