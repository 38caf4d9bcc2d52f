"""How the data set of each kind of task is read: the contract's `--dataset-type` documents, one model per kind.

Their fields have the public contract's names, since miners' trainers read them. Nothing here reads any data.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from tourney_ray.core.record import Record

WEIGHTS_SUM_WITHIN = 1e-6
"""How far the weights of reward functions may be from 1 together."""


class InstructDatasetType(Record):
    """Columns and prompt formats of an Instruct data set."""

    field_instruction: str = "instruction"
    field_input: str | None = None
    field_output: str | None = "output"
    """The answer, which is scored; None: all of the text is."""
    field_system: str | None = None
    system_prompt: str = ""
    system_format: str = "{system}"
    format: str | None = None
    """Prompt of a row whose input is not empty; None stands for `"{instruction} {input}"`."""
    no_input_format: str | None = None
    """Prompt of a row without input; None stands for `"{instruction}"`."""


class ChatDatasetType(Record):
    """Where a Chat data set keeps its conversations, and whose turns are whose."""

    chat_template: str = "chatml"
    """Name of the template that turns a conversation into text."""
    chat_column: str = "conversations"
    chat_role_field: str = "from"
    chat_content_field: str = "value"
    chat_user_reference: str = "user"
    chat_assistant_reference: str = "assistant"
    """Word for the turns that are scored."""


class DpoDatasetType(Record):
    """Columns of a DPO data set; its texts are read as they stand."""

    field_prompt: str = "prompt"
    field_chosen: str = "chosen"
    field_rejected: str = "rejected"


class RewardFunction(Record):
    """One reward of a GRPO task: `f(completions, **kwargs) -> list[float]` in Python, run apart and without network."""

    reward_func: str = Field(min_length=1)
    """Source of the function, the only one that it defines at its top level."""
    reward_weight: float = Field(gt=0, le=1)
    """Its share of the value."""
    low: float
    """Raw reward that counts as 0; lower ones do too."""
    high: float
    """Raw reward that counts as 1; higher ones do too."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the range of a reward is [{self.low}, {self.high}]; low has to be below high")
        return self


class GrpoDatasetType(Record):
    """Columns of a GRPO data set, and what its completions are rewarded for."""

    field_prompt: str = "prompt"
    extra_column: str | None = None
    """Column that reward functions get as `extra_data`, where they name it."""
    reward_functions: tuple[RewardFunction, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights(self) -> Self:
        total = math.fsum(function.reward_weight for function in self.reward_functions)
        if abs(total - 1) > WEIGHTS_SUM_WITHIN:
            raise ValueError(f"the weights of the reward functions sum to {total:g}, they have to sum to 1")
        return self


class ImageDatasetType(Record):
    """What is trained on an image task's archive of pictures and captions, and which number decides."""

    model_type: Literal["sdxl", "flux"]
    """The contract's `--model-type`."""
    metric: Literal["pixel", "denoising"] = "pixel"
    """Error of the denoised pictures, or of the denoising itself; on tiny models only the second ranks trainings."""
    long_side: int = Field(default=1024, ge=64, le=2048)
    """Pixels that the long side of a test picture is brought to; tiny models have a size of their own."""


DatasetType = InstructDatasetType | ChatDatasetType | DpoDatasetType | GrpoDatasetType | ImageDatasetType
