"""What `feast -c features/repo apply` finds: the objects of `features.views`, as module attributes."""

from __future__ import annotations

import os
from pathlib import Path

from features.views import define
from infra.errors import InvalidInputError

STATE_VARIABLE = "POLYRANK_FEATURE_STATE"

if STATE_VARIABLE not in os.environ:
    raise InvalidInputError(f"expected {STATE_VARIABLE} to name the folder of the feature files, found it unset")

_definitions = define(Path(os.environ[STATE_VARIABLE]).absolute())
user = _definitions.user
item = _definitions.item
user_stats = _definitions.user_stats
user_history = _definitions.user_history
user_category = _definitions.user_category
item_stats = _definitions.item_stats
user_row_push = _definitions.user_row_push
user_row = _definitions.user_row
user_online = _definitions.user_online
user_training = _definitions.user_training
item_snapshot = _definitions.item_snapshot
