"""Gymnasium text environments that say not only how good an attempt was, but why.

    import gymnasium, rfenvs
    env = gymnasium.make("rfenvs/ToolCall-v0")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step('weather(city="Oslo")')
    print(rfenvs.feedback_text(info))

Without importing this package first: `gymnasium.make("rfenvs:rfenvs/ToolCall-v0")`.
"""

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.epochs import Epoch, epochs
from rfenvs.feedback import FEEDBACK_SCHEMA, feedback_text, item
from rfenvs.registry import get_task, list_ids, num_tasks, register, splits
from rfenvs.spaces import Text
from rfenvs.tasks import Message, Task
from rfenvs.validation import Report, validate
from rfenvs.vector import TextVectorEnv, make_vec, to_gymnasium_infos
from rfenvs.wrappers import ChatObservation, TokenizeFeedback, TokenObservation, TranscriptObservation

register()

__all__ = [
    "FEEDBACK_SCHEMA",
    "Action",
    "ChatObservation",
    "Epoch",
    "Message",
    "Report",
    "Task",
    "Text",
    "TextEnv",
    "TextVectorEnv",
    "TokenObservation",
    "TokenizeFeedback",
    "TranscriptObservation",
    "Verdict",
    "epochs",
    "feedback_text",
    "get_task",
    "item",
    "list_ids",
    "make_vec",
    "num_tasks",
    "splits",
    "to_gymnasium_infos",
    "validate",
]
