"""Whether the tasks that the encoder's options name exist; said when a workspace is read, not when it trains."""

from __future__ import annotations

from collections.abc import Iterable

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.config import EncoderConfig


def check_task_names(config: EncoderConfig, tasks: Iterable[str]) -> None:
    """Check every task that the configuration names.

    Args:
        config: of the encoder.
        tasks: names of the workspace's tasks.

    Raises:
        InvalidInputError: the option, the unknown name and the nearest known one.
    """
    known = tuple(tasks)
    pairs = config.residual.pairs if config.residual is not None else None
    named: dict[str, Iterable[str]] = {
        "balance.weights": config.balance.weights,
        "balance.lagrangian.limits": config.balance.lagrangian.limits,
        "balance.dual.baselines": config.balance.dual.baselines,
        "limits": [limit.task for limit in config.limits],
        "few_labels": config.few_labels,
        "residual.pairs": [task for pair in pairs or () for task in pair],
    }
    for option, names in named.items():
        for name in names:
            if name not in known:
                raise InvalidInputError(f"encoder.{option}: {unknown_name('task', name, known)}")
