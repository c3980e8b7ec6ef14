# mypy: disable-error-code="import-not-found,import-untyped"
"""TorchRL: what its `GymWrapper` drops of an info, kept.

    from rfenvs.bridges.torchrl import wrap
    env = wrap(gymnasium.make("rfenvs/ToolCall-v0", max_turns=3))
    rollout = env.rollout(3, policy)
    rollout["next", "feedback"]  # the list of feedback items of each step

Needs TorchRL: `pip install "rfenvs[torchrl]"`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

try:
    import torch
    from tensordict import NonTensorData, TensorDictBase
    from torchrl.data import Binary, NonTensor, TensorSpec, Unbounded
    from torchrl.envs import GymWrapper
    from torchrl.envs.gym_like import BaseInfoDictReader
except ImportError as error:
    raise ImportError(f'rfenvs.bridges.torchrl needs TorchRL: pip install "rfenvs[torchrl]" ({error}).') from error


class InfoReader(BaseInfoDictReader):  # type: ignore[misc]
    """Copies an info's feedback and a few more keys into the tensordict, on resets and steps.

    | key | holds |
    |---|---|
    | `feedback` | list of feedback items |
    | `task` | which task it is |
    | `stop_reason` | why the episode ended; empty while it runs |
    | `scored` | bool tensor of shape `(1,)`; False: drop the sample |
    | `turn` | int64 tensor of shape `(1,)`: actions taken so far |
    """

    _examples = {"feedback": [], "task": {}, "stop_reason": ""}  # noqa: RUF012

    @property
    def info_spec(self) -> dict[str, TensorSpec]:
        """What the keys hold, in TorchRL's terms."""
        return {
            **{key: NonTensor(shape=(), example_data=example) for key, example in self._examples.items()},
            "scored": Binary(1, dtype=torch.bool),
            "turn": Unbounded(shape=(1,), dtype=torch.int64),
        }

    def __call__(self, info_dict: dict[str, Any], tensordict: TensorDictBase) -> TensorDictBase:
        """Copy."""
        for key in self._examples:
            tensordict.set(key, NonTensorData(info_dict[key]))
        tensordict.set("scored", torch.tensor([info_dict["scored"]]))
        tensordict.set("turn", torch.tensor([info_dict["turn"]]))
        return tensordict


def wrap(env: gymnasium.Env[str, str], **kwargs: Any) -> GymWrapper:
    """Make a TorchRL environment that keeps the feedback; `kwargs` are those of `GymWrapper`."""
    wrapped = GymWrapper(env, **kwargs)
    wrapped.set_info_dict_reader(InfoReader())
    return wrapped
