"""The multi-task text encoder: backbone, heads, training, export."""
