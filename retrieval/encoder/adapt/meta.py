"""Steps by first-order meta-learning: every task, or every domain, is an episode of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import torch
from torch import Tensor

from retrieval.encoder.adapt.config import MetaConfig
from retrieval.encoder.adapt.excerpts import VIEW_OF, labelled, of_rows, of_tasks, row_view
from retrieval.encoder.adapt.group_columns import require_groups
from retrieval.encoder.balance.meta import Episode, Loss, anil, fomaml, reptile
from retrieval.encoder.balance.scales import Scales, weighted_mean
from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.step import Descent, Objective, TextSource

# Of one episode: its tasks with a label and what they read, in each of its batches.
Excerpts = list[tuple[list[EncoderTask], Batch]]


class MetaStepper:
    """Steps of one phase whose gradient is the episodes' mean, by the importances of their tasks.

    Batches hold labels of all tasks, so that the episodes of a step share them: the batch it is called with is the
    query (of `reptile`, which has none, the first support), and the others are drawn. An episode's loss is the mean of
    its tasks' losses over their constant predictors', by importance. Supports without a label of it are passed over,
    the others taken in turn until its steps are made; without a label in the first batch, or in any support, there is
    no such episode in this step, and what it alone reads doesn't change.

    Args:
        scales: importances and baselines of the tasks.
        descent: makes the outer step.
        config: method, steps, rate, domains.
        objective: from a batch to losses; each depends on its own task alone.
        draw: another training batch.
        tokens: whether states of tokens are at hand.
    """

    def __init__(
        self, scales: Scales, descent: Descent, config: MetaConfig, *, objective: Objective, draw: Callable[[], Batch],
        tokens: bool,
    ) -> None:  # fmt: skip
        self.scales, self.descent, self.config = scales, descent, config
        self.objective, self.draw, self.tokens = objective, draw, tokens

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> None:
        """Take one outer step on these tasks, which moves their heads alone; without an episode nothing changes."""
        first = [batch] if self.config.method == "reptile" else []
        supports = [*first, *(self.draw() for _ in range(self.config.steps - len(first)))]
        importance = self.scales.importance
        episodes, weights = [], []
        for own, domain, share in self._kinds(batch, [task for task in tasks if importance[task.name] > 0]):
            query, support = self._excerpts([batch], own, domain), self._excerpts(supports, own, domain)
            if query and support:
                episodes.append(Episode(support=self._loss(support, source), query=self._loss(query, source)))
                present, _ = query[0]
                weights.append(share * sum(importance[task.name] for task in present))
        if episodes:
            self.descent.optimizer.zero_grad(set_to_none=True)
            self._fill_gradients(episodes, weights)
            self.descent(tasks)

    def _fill_gradients(self, episodes: Sequence[Episode], weights: Sequence[float]) -> None:
        model, steps, rate = self.descent.model, self.config.steps, self.config.rate
        match self.config.method:
            case "reptile":
                reptile(model, [episode.support for episode in episodes], steps=steps, rate=rate, weights=weights)
            case "fomaml":
                fomaml(model, episodes, steps=steps, rate=rate, weights=weights)
            case "anil":
                anil(model, list(model.heads.parameters()), episodes, steps=steps, rate=rate, weights=weights)

    def _kinds(
        self, batch: Batch, tasks: Sequence[EncoderTask]
    ) -> Iterator[tuple[Sequence[EncoderTask], int | None, float]]:
        """Yield each episode's tasks, its domain's code (None for all rows) and its share in their importances.

        Domains share evenly, so that dividing rows gives these tasks no larger say.
        """
        codes = self._codes(batch)
        domains = [] if codes is None else torch.unique(codes[codes >= 0]).tolist()
        divided = [] if codes is None else [task for task in tasks if divides(self.config, task)]
        for task in tasks:
            if task not in divided:
                yield [task], None, 1.0
        for domain in domains if divided else ():
            yield divided, domain, 1 / len(domains)

    def _excerpts(self, batches: Sequence[Batch], tasks: Sequence[EncoderTask], domain: int | None) -> Excerpts:
        """Return what an episode sees of the batches that have a label of it."""
        found: Excerpts = []
        for batch in batches:
            part = of_tasks(batch, tasks)
            if domain is not None:
                codes = self._codes(batch)
                if codes is None:
                    continue
                part = of_rows(part, row_view(tasks[0]), codes == domain)
            own = labelled(part, tasks, tokens=self.tokens)
            if own:
                found.append((own, part))
        return found

    def _loss(self, excerpts: Excerpts, source: TextSource) -> Loss:
        """Return what runs the model on one of the excerpts after the other."""
        turns = cycle(excerpts)

        def loss() -> Tensor:
            tasks, batch = next(turns)
            losses = self.objective(batch, source, tasks).losses
            return weighted_mean(self.scales.relative(losses), self.scales.importance)

        return loss

    def _codes(self, batch: Batch) -> Tensor | None:
        """Return the domains of a batch's rows, int64; None where there are none, or the batch is of other data."""
        domains = self.config.domains
        return None if domains is None else batch.groups.get(VIEW_OF[domains.on], {}).get(domains.column)


def check_domains(config: MetaConfig, data: TrainingData) -> None:
    """Refuse data without the declared domains, or without a task whose rows they divide.

    Raises:
        AdaptError: as said.
    """
    if config.domains is not None:
        require_groups(config.domains, data, [task for task in data.tasks if divides(config, task)], "meta.domains")


def divides(config: MetaConfig, task: EncoderTask) -> bool:
    """Tell whether domains divide a task's rows."""
    return config.domains is not None and row_view(task) == VIEW_OF[config.domains.on]
