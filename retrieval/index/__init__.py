"""The vector index: FAISS of a type that suits the size, search under a mask, exact scores, recall; or Milvus."""

from retrieval.index.config import IndexConfig
from retrieval.index.errors import VectorIndexError
from retrieval.index.milvus_config import MilvusConfig
from retrieval.index.milvus_server import IndexUnavailableError
from retrieval.index.open import AnyIndexConfig, build_index, load_index
from retrieval.index.vector_index import VectorIndex, recall_against_exact

__all__ = [
    "AnyIndexConfig", "IndexConfig", "IndexUnavailableError", "MilvusConfig", "VectorIndex", "VectorIndexError",
    "build_index", "load_index", "recall_against_exact",
]  # fmt: skip
