"""`prefect.yaml` names flows that exist, with parameters they take and schedules that Prefect can read."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import prefect
import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule

ROOT = Path(__file__).parents[2]
DECLARED: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = DECLARED["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: str(each["name"]))
def test_deployment_can_be_made(deployment: dict[str, Any]) -> None:
    file, name = deployment["entrypoint"].split(":")
    assert (ROOT / file).is_file()
    flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(flow, prefect.Flow)
    inspect.signature(flow.fn).bind(**deployment["parameters"])
    assert deployment["work_pool"] == {"name": "polyrank-local"}
    for schedule in deployment.get("schedules", []):
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert schedule["active"] is False


def test_every_flow_has_one_deployment() -> None:
    names = sorted(each["name"] for each in DEPLOYMENTS)
    assert names == ["features", "index", "model", "monitor", "publish", "rollback"]
