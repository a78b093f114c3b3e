"""What can be chosen about shipping: runtime and number format, and how far the model itself is cut down."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Runtime = Literal["onnx", "openvino"]
Precision = Literal["fp32", "bf16", "fp16_weights", "int8_weights", "int8"]

# ONNX Runtime's CPU kernels know no bfloat16, and its dynamic int8 keeps .91 of the ten nearest texts (OpenVINO's .98).
OPENVINO_ALONE: Final[tuple[Precision, ...]] = ("bf16", "int8")


class DistilConfig(BaseModel):
    """How a pruned encoder learns its teacher's vectors (Hinton et al., 2015; on vectors, Reimers & Gurevych, 2020).

    Attributes:
        steps: a count, so that a run repeats on any machine.
        batch: texts a step.
        learning_rate: highest, of the transformer's layers.
        weight_decay: AdamW's, on matrices alone.
        lr_warmup: share of the steps over which the rate rises linearly, before its cosine fall.
        clip: limit of the gradient's norm.
        embeddings: train the token embeddings too, half of a small model's weights.
        held_out: share of the distinct texts on which student and teacher are compared.
        seed: of the texts held out and of batches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(1000, ge=1)
    batch: int = Field(128, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    lr_warmup: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    embeddings: bool = False
    held_out: float = Field(0.05, gt=0, lt=1)
    seed: int = Field(0, ge=0)


class ShipConfig(BaseModel):
    """What a release's encoder becomes after training.

    Attributes:
        runtime: `auto` takes OpenVINO where it is installed, else ONNX Runtime.
        precision: `fp32`; `bf16` (weights as trained, multiplied in bfloat16 where the CPU can, else in float32);
            `fp16_weights` and `int8_weights` (smaller files, multiplied in float32); `int8` (int8 weights, activations
            rounded to int8 in groups as they come). `auto` takes `bf16` by OpenVINO and `fp32` by ONNX Runtime.
            Alone and in a batch, a text's unit vector differs by less than 1e-6 an entry in `fp32`, `fp16_weights` and
            `int8_weights`, by up to 1e-3 in `bf16` and 3e-3 in `int8`; these two also depend on the CPU.
        keep_layers: transformer layers kept; None keeps all. Half of MiniLM's layers embed 1.7 times as many texts and
            keep .75 of the ten nearest; .90 after 300 steps of `distil`.
        trim_vocabulary: keep only tokens that the given texts hold, besides special tokens and single characters.
        distil: how layers that were kept learn the whole model's vectors; None leaves them as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runtime: Runtime | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    keep_layers: int | None = Field(None, ge=1)
    trim_vocabulary: bool = False
    distil: DistilConfig | None = None

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        """Refuse options that contradict each other."""
        if self.runtime == "onnx" and self.precision in OPENVINO_ALONE:
            raise ValueError(f"precision: expected runtime openvino for {self.precision}, found runtime onnx")
        if self.distil is not None and self.keep_layers is None:
            raise ValueError("distil: expected keep_layers, without which student and teacher are one, found none")
        return self
