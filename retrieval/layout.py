"""Where each part lies inside a release directory, as paths relative to it (ranking names its own parts)."""

from __future__ import annotations

from typing import Final

# Directories, each written by one step and shared whole between releases.
ENCODER_DIR: Final = "encoder"
VECTORS_DIR: Final = "vectors"
INDEX_DIR: Final = "index"
ITEMS_DIR: Final = "items"
COLLABORATIVE_DIR: Final = "collaborative"
# Holds what `retrieval.sequence.runtime` writes; only where the workspace asks for it.
SEQUENCE_DIR: Final = "sequence"

# encoder/ holds what `retrieval.encoder` writes; serving needs the ONNX graph and the heads alone.
ENCODER_ONNX: Final = f"{ENCODER_DIR}/encoder.onnx"
ENCODER_HEADS: Final = f"{ENCODER_DIR}/heads.safetensors"

ITEM_VECTORS: Final = f"{VECTORS_DIR}/items.npy"
USER_VECTORS: Final = f"{VECTORS_DIR}/users.npy"
USER_IDS: Final = f"{VECTORS_DIR}/user_ids.json"

# Below index/: these names are relative to INDEX_DIR, since an index is saved as a directory of its own.
INDEX_FILE: Final = "index.faiss"
INDEX_META: Final = "index.json"
INDEX_POSITIONS: Final = "positions.npy"
INDEX_LISTS: Final = "lists.npy"

SNAPSHOT: Final = f"{ITEMS_DIR}/snapshot.parquet"
SEGMENTS: Final = f"{ITEMS_DIR}/segments.npz"
AUDIENCES: Final = f"{ITEMS_DIR}/audiences.npz"

# Below collaborative/.
ALS_USERS: Final = "als_users.npy"
ALS_ITEMS: Final = "als_items.npy"
KNN_INDPTR: Final = "knn_indptr.npy"
KNN_INDICES: Final = "knn_indices.npy"
KNN_DATA: Final = "knn_data.npy"
COLLABORATIVE_META: Final = "meta.json"

# At the root of a release.
RETRIEVAL_CONFIG: Final = "retrieval.json"
CATALOGUE: Final = "catalogue.json"
MERGE: Final = "merge.txt"
TASKS: Final = "tasks.json"
WORKSPACE: Final = "workspace.yaml"
REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"
WARMUP: Final = "warmup.json"
MANIFEST: Final = "manifest.json"
