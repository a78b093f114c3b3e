"""Search over the encoder's configuration, with one budget for the multi-task model and for every task's own model."""
