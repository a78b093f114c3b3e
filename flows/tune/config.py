"""The workspace's `tune` section: which options of the encoder a search may change, and between which values.

    tune:
      space:
        balance.method: [static, volume, uncertainty, dual]
        learning_rate: {low: 1e-5, high: 2e-4, log: true}
      weights: true

Checked here against the encoder's own configuration, without torch and Optuna: the file is read by every command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from infra.errors import unknown_name
from retrieval.encoder.config import EncoderConfig

Scalar = str | bool | int | float | None
Number = Annotated[int | float, Field(allow_inf_nan=False)]
# What a trial doesn't read: a study pretrains once, gives every seed itself, and ships nothing.
UNREAD: Final = frozenset({"pretrain", "relatedness", "ship", "seed"})


class Range(BaseModel):
    """Every number from `low` to `high`, whole ones where the option is a count.

    Attributes:
        low: the least.
        high: the greatest.
        log: draw evenly over the logarithm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"expected low < high, found low: {self.low}, high: {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: expected low above 0, found low: {self.low}")
        return self


Choices = Annotated[tuple[Scalar, ...], Field(min_length=1)]
# Around the defaults of the encoder, which were tuned on the demo; a trial takes at most twice its time.
DEFAULT_SPACE: Final[Mapping[str, Range | Choices]] = {
    "balance.method": ("static", "volume", "uncertainty", "dual"),
    "batch.task_exponent": Range(low=0.0, high=1.0),
    "dropout": Range(low=0.0, high=0.3),
    "head_learning_rate": Range(low=3e-5, high=1e-3, log=True),
    "learning_rate": Range(low=1e-5, high=2e-4, log=True),
    "steps": (50, 100, 200),
    "train_layers": (1, 2, 3),
    "warmup.learning_rate": Range(low=3e-4, high=3e-3, log=True),
}


class TuneConfig(BaseModel):
    """What a search may change.

    Attributes:
        space: by dotted key of the `encoder` section its choices, or the range of a number; the workspace's own value
            is always among them.
        weights: search each task's importance as well, by a factor of up to 4 either way.
        seed: of the search.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: dict[str, Range | Choices] = Field(default_factory=lambda: dict(DEFAULT_SPACE))
    weights: bool = True
    seed: int = Field(0, ge=0)

    @field_validator("space")
    @classmethod
    def _options_of_the_encoder(cls, space: dict[str, Range | Choices]) -> dict[str, Range | Choices]:
        for key, values in space.items():
            option: TypeAdapter[Scalar] = TypeAdapter(option_of(key).rebuild_annotation())
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                try:
                    option.validate_python(value)
                except ValidationError as error:
                    wrong = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors(include_url=False)))
                    raise ValueError(f"{key}: {wrong[:1].lower()}{wrong[1:]}, found {value!r}") from error
        return space

    @model_validator(mode="after")
    def _something_to_search(self) -> Self:
        if not self.space and not self.weights:
            raise ValueError("expected a dimension in space, or weights: true, found neither")
        return self


def option_of(key: str) -> FieldInfo:
    """Return the field of `EncoderConfig` that a dotted key names.

    Raises:
        ValueError: no such option, a section in place of an option, or one that no trial reads.
    """
    model: type[BaseModel] | None = EncoderConfig
    field: FieldInfo | None = None
    for name in key.split("."):
        if model is None:
            raise ValueError(f"{key}: expected an option of the encoder section, found more names after an option's")
        if name not in model.model_fields:
            raise ValueError(f"{key}: {unknown_name('key', name, model.model_fields)}")
        field = model.model_fields[name]
        model = _section(field)
    assert field is not None
    if model is not None:
        raise ValueError(f"{key}: expected an option, found a section with {', '.join(sorted(model.model_fields))}")
    if key.split(".", maxsplit=1)[0] in UNREAD:
        raise ValueError(f"{key}: expected an option that a trial reads, found one of {', '.join(sorted(UNREAD))}")
    return field


def is_count(field: FieldInfo) -> bool:
    """Tell whether an option holds whole numbers."""
    annotation = field.annotation
    return int in (annotation, *get_args(annotation))


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, also where it may be null; None for an option."""
    annotation = field.annotation
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None
