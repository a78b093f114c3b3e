"""Names of the files that make an exported encoder, and its description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from features.units import Unit
from infra.errors import InvalidInputError

ONNX: Final = "encoder.onnx"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
HEADS: Final = "heads.safetensors"
DESCRIPTION: Final = "encoder.json"

FORMAT: Final = 4
# Any name but "embedding": torch's dynamo exporter writes an invalid graph for an output called so.
OUTPUT: Final = "pooled"
# Only of an encoder with tags, whose heads read them.
STATES: Final = "token_states"


TaskKind = Literal["contrastive", "binary", "regression", "multiclass", "token_tags"]
TaskOn = Literal["pair", "user", "item", "text"]


class EncoderFilesError(InvalidInputError):
    """The folder holds no encoder that this version reads."""


class TaskEntry(BaseModel):
    """One head, as written in the description.

    Attributes:
        name: the task's.
        kind: what it predicts.
        on: what a row is.
        classes: names by code, of a multiclass task or of tags.
        parent: task whose probability its own is multiplied by.
        energy: multiclass tasks, the log sum exp of whose logits is added to its own.
        unit: what a tag is of. Without meaning but for tags.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: TaskKind
    on: TaskOn
    classes: tuple[str, ...] = ()
    parent: str | None = None
    energy: tuple[str, ...] = ()
    unit: Unit = "word"


class Description(BaseModel):
    """`encoder.json`: what a reader must know beside the weights.

    Attributes:
        format: version of the layout.
        backbone: name it was trained from.
        dim: length of a vector.
        pad_id: token id of padding.
        max_tokens: by kind of text.
        prefixes: by kind of text.
        sides: by kind of text, whose projection it takes.
        tasks: heads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    backbone: str
    dim: int
    pad_id: int
    max_tokens: dict[str, int]
    prefixes: dict[str, str]
    sides: dict[str, str]
    tasks: tuple[TaskEntry, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder's description.

        Raises:
            EncoderFilesError: it is missing, malformed, or of another format.
        """
        path = folder / DESCRIPTION
        try:
            found = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise EncoderFilesError(f"{path}: expected an exported encoder, found no such file") from error
        except ValidationError as error:
            raise EncoderFilesError(f"{path}: expected an encoder's description, found {error}") from error
        if found.format != FORMAT:
            raise EncoderFilesError(f"{path}: expected format {FORMAT}, found {found.format}")
        return found

    def write(self, folder: Path) -> None:
        """Write it into the folder."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
