"""Import Feast without what it drags along; every other module takes Feast from here.

Two side effects of `import feast` (0.67) are held back:
- it imports torch where that is installed, for a tensor answer that nobody here asks for: 4.5 of 20 seconds, 200 MB,
  and torch in a serving process. Feast carries on without it when the import fails, so it is made to fail.
- `feast.metrics` puts PROMETHEUS_MULTIPROC_DIR into the environment, which switches every later import of
  prometheus_client, in this process and in its children, to files shared between processes. So prometheus_client is
  imported first and the variables are taken out again.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import sqlite3
import sys
import warnings
from types import ModuleType
from typing import Final

_PROMETHEUS_VARIABLES: Final = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")


def _silence_teardown() -> None:
    """Drop what is written to standard error while the interpreter is torn down.

    DuckDB 2's bindings list some fifty "nanobind: leaked ..." lines there, after every handler of ours has run: nothing
    that anybody could act on, below the message that a user should read.
    """
    sys.stderr.flush()
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 2)


# Handlers run last in, first out, so this one comes after those of everything imported from here on.
atexit.register(_silence_teardown)


def _import_feast() -> ModuleType:
    importlib.import_module("prometheus_client")
    before = {name: os.environ.get(name) for name in _PROMETHEUS_VARIABLES}
    torch_is_new = "torch" not in sys.modules
    if torch_is_new:
        sys.modules["torch"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        return importlib.import_module("feast")
    finally:
        if torch_is_new:
            del sys.modules["torch"]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


feast = _import_feast()
# It warns that a source path with a `*` is no file; DuckDB reads it as a pattern, which is what we mean.
logging.getLogger("feast.infra.offline_stores.file_source").setLevel(logging.ERROR)
# ibis 12 calls it on DuckDB 2; nothing that a caller of ours could mend.
warnings.filterwarnings("ignore", r"fetch_arrow_table\(\) is deprecated", DeprecationWarning)
# Its Milvus store, which an online read imports whatever the store is, has a field that shadows another.
warnings.filterwarnings("ignore", 'Field name "vector_enabled" in "MilvusOnlineStoreConfig"', UserWarning)


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what the online stores raise when they cannot be read or written."""
    errors: list[type[Exception]] = [sqlite3.Error, OSError]
    try:
        errors.append(importlib.import_module("redis.exceptions").RedisError)
    except ImportError:  # the redis client is only needed where features are served from Redis
        return tuple(errors)
    return tuple(errors)


CONNECTION_ERRORS: Final = _connection_errors()
