"""Small chat templates that behave as those of well-known model families, each with a tokenizer of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models import CHATML, CORPUS
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from agents.chat import Chat

# Reasoning of turns before the last user message is dropped; `enable_thinking=False` writes an empty block.
QWEN3 = """
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == "assistant" %}
{%- set content = m.content %}
{%- set thinking = "" %}
{%- if "</think>" in content %}
{%- set thinking = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n") %}
{%- set content = content.split("</think>")[-1].lstrip("\n") %}
{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thinking) %}
{{- "<|im_start|>assistant\n<think>\n" + thinking + "\n</think>\n\n" + content }}
{%- else %}
{{- "<|im_start|>assistant\n" + content }}
{%- endif %}
{%- elif m.role == "tool" %}
{{- "<|im_start|>user\n<tool_response>\n" + m.content + "\n</tool_response>" }}
{%- else %}
{{- "<|im_start|>" + m.role + "\n" + m.content }}
{%- endif %}
{{- "<|im_end|>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|im_start|>assistant\n" }}
{%- if enable_thinking is defined and not enable_thinking %}{{- "<think>\n\n</think>\n\n" }}{% endif %}
{%- endif %}
"""

LLAMA3 = """
{{- "<|begin_of_text|>" }}
{%- for m in messages %}
{{- "<|start_header_id|>" + m.role + "<|end_header_id|>\n\n" + m.content | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{% endif %}
"""

GEMMA = """
{{- "<bos>" }}
{%- if messages[0].role == "system" %}{{ raise_exception("System role not supported") }}{% endif %}
{%- for m in messages %}
{%- if (m.role == "user") != (loop.index0 % 2 == 0) %}{{ raise_exception("Roles must alternate") }}{% endif %}
{%- set role = "model" if m.role == "assistant" else m.role %}
{{- "<start_of_turn>" + role + "\n" + m.content | trim + "<end_of_turn>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<start_of_turn>model\n" }}{% endif %}
"""

# The system message is written into the last user message: earlier prompts are not prefixes of later ones.
MISTRAL = """
{{- "<s>" }}
{%- if messages[0].role == "system" %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}
{%- if m.role == "user" %}
{{- "[INST] " + (system + "\n\n" if loop.last and system is defined else "") + m.content + " [/INST]" }}
{%- else %}
{{- " " + m.content + "</s>" }}
{%- endif %}
{%- endfor %}
"""

# A turn ends with a token that is not EOS, and behind a newline.
OTHER_END = """
{%- for m in messages %}{{- "<|" + m.role + "|>" + m.content + "<|end|>\n" }}{% endfor %}
{%- if add_generation_prompt %}{{- "<|assistant|>" }}{% endif %}
"""


@dataclass(frozen=True)
class Family:
    template: str
    specials: tuple[str, ...]
    eos: str
    variables: dict[str, Any] = field(default_factory=dict)
    stable: bool = True
    end: str = ""
    """Of a turn, where it is not EOS."""

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Byte-level BPE in which many strings have several spellings; ``<think>`` is added, and not special."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|pad|>", *self.specials],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=self.eos, pad_token="<|pad|>")
        fast.add_special_tokens({"additional_special_tokens": [s for s in self.specials if s != self.eos]})
        fast.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
        fast.chat_template = self.template
        return fast

    def chat(self) -> Chat:
        return Chat(self.tokenizer(), self.variables)


_IM = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "chatml": Family(CHATML, _IM, "<|im_end|>"),
    "qwen3": Family(QWEN3, _IM, "<|im_end|>", stable=False),
    "qwen3, not thinking": Family(QWEN3, _IM, "<|im_end|>", {"enable_thinking": False}, stable=False),
    "llama3": Family(
        LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>"
    ),
    "gemma": Family(GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", end="<end_of_turn>"),
    "mistral": Family(MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>"),
    "other end": Family(
        OTHER_END, ("<|user|>", "<|system|>", "<|assistant|>", "<|end|>", "<|eos|>"), "<|eos|>", end="<|end|>"
    ),
}
CHATS = {name: family.chat() for name, family in FAMILIES.items()}
