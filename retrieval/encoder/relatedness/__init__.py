"""Which tasks should share an encoder: priors of relatedness, measured affinity, proposed groups."""
