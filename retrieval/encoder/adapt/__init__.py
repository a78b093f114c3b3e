"""Unusual ways to train the encoder, each off until a line of the workspace's `encoder` section asks for it.

What learns, and how fast:
    train_layers: 2                   the top layers; null trains all, embeddings included
    lora: {rank: 8, alpha: 16}        adapters in those layers instead; merged into plain weights in the end
    unfreeze: {every: 20}             those layers one by one, the top one first, one more every 20 steps
    layer_decay: 0.8                  learning rate of each layer over that of the one above it
    optimizer: sgd, momentum: 0.9     instead of adamw
    l1: 1.0e-6                        pulls the matrices' entries to 0
    dropout: 0.1                      on pooled vectors, while training

More from the same labels (`augment`; held-out texts stay as they are):
    tokens: {rate: 0.1, how: remove}  texts without some tokens (or `how: replace`, by the mask)
    synonyms: {words: {tea: [cha]}}   texts with words exchanged; or `file:`, a word, a tab and its synonyms a line
    back_translation: "package.module:function"   from a list of texts to as many paraphrases, called once
    share: 0.5                        of a batch's texts that are read in one of these forms
    mixup: 0.2                        mixtures of two rows' vectors and losses, by Beta(0.2, 0.2)

Few labels (`few_labels: {intent: {...}}`, by task on texts; `labels.make` does all but the last line):
    prompt: {template: "{text} {mask}"}   a masked-language model's word judges texts, from no label at all
    warm_up: {steps: 100}             the backbone moves labelled texts of one class together, before any head learns
    pseudo: {threshold: 0.95}         what a first training (or the prompt) is sure of is learnt as well
    class_names: {template: "{name}"} the head begins with its classes' names

Robustness:
    fgm: 0.5                          losses also a step of that length away, in the worst direction of the embeddings
    rdrop: 1.0                        divergence between predictions under two draws of `dropout`

Across tasks:
    residual: {weight: 0.1}           one task's prediction explains another's label, on rows that carry both
    meta: {method: reptile}           a start from which 3 steps on one task go far; or `fomaml`, `anil`
    meta: {..., domains: {on: user, column: region}}   and from which those on one region's users do

Across groups of rows:
    limits: [{task: churn, on: user, column: age, measure: rate_gap, limit: 0.1}]   a multiplier holds the gap down

Across parties:
    fedmix: {party: {on: user, column: store}}   users mixed with means of 8 users of another store

What was learnt before:
    start: PATH                       an exported encoder's (or release's) backbone, projections, heads of equal tasks
    keep: {kl: 1.0}                   divergence from the start's predictions, on the texts of every batch
    keep: {ewc: 1.0}                  changes of weights by their Fisher information on the data of old
    keep: {replay: 0.25}              share of steps drawn from the data of old: the workspace's whose release starts it

`make` puts them together. A way to look at a batch is a `step.Objective`, and those that add to another hold it inside;
what weights cost is a `step.Penalty`; where batches come from is a `batch_sources.BatchSource`; what takes one step is
`step.Stepper` or `meta.MetaStepper`.
"""
