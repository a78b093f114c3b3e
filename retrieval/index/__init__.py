"""The vector index: FAISS of a type that suits the size, search under a mask, exact scores, recall."""

from retrieval.index.config import IndexConfig
from retrieval.index.errors import VectorIndexError
from retrieval.index.vector_index import VectorIndex, recall_against_exact

__all__ = ["IndexConfig", "VectorIndex", "VectorIndexError", "recall_against_exact"]
