"""Rules on the order of a user's items, after the objective has scored them.

They apply in one sequence, whichever are set (`apply.py`); what comes later goes before what came earlier:

    block         never shown
    deduplicate   of items that agree in attributes only the best stays
    boost         so many places up or down
    frequency     shown often and never answered: behind the others, or not at all
    bury          behind all others
    diversity     unlike those before them, weighed against relevance (MMR or DPP)
    caps          at most so many of one value of an attribute
    exposure      at least so much of what is seen goes to some items
    discovery     an item never bought among any so many
    pin           at given places

No rule needs scores of a certain scale: boosts count places, and diversity reads scores relative to the list's best
and worst. Only `block`, `deduplicate` and `frequency: {then: drop}` take items away. What can't be met, as a cap on the
only brand there is, is met as far as the items go: no rule fails or drops an item for it.
"""
