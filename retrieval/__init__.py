"""The multi-task encoder, the index, collaborative signals and the retrieval service."""
