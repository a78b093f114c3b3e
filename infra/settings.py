"""The environment of a process: addresses, ports, keys, limits. Choices of method live in the workspace file."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Final, Literal, Self

import structlog
from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import InvalidInputError, unknown_name

_log = structlog.get_logger(__name__)
_PREFIX: Final = "POLYRANK_"

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


class InvalidSettingsError(InvalidInputError):
    """An environment variable holds a value we don't accept."""

    title = "Invalid settings"


class KeysRequiredError(InvalidInputError):
    """The service would be reachable from other machines by anyone."""

    title = "API keys required"


class Settings(BaseSettings):
    """What the environment says, each field from the variable `POLYRANK_<FIELD>`.

    Attributes:
        host: address to bind; anything but loopback needs keys.
        port: TCP port to bind; 0 lets the system choose.
        api_keys: accepted values of the X-API-Key header, comma-separated in the variable; none means open.
        retrieval_url: where the retrieval service is, None when it is mounted in this process.
        timeout_s: seconds that one call to another service may take.
        online_store_url: Redis or Valkey of the online features, None for a local file.
        milvus_uri: address of a Milvus, such as http://host:19530, or a file of Milvus Lite; None where none is used.
        milvus_token: sent to it alone, `name:password` or a key.
        log_level: least level that is logged.
        log_json: one JSON object a line instead of text for people.
        max_body_bytes: longest request body that is read.
        max_batch: most entries that one request may list.
        release_poll_s: seconds between two looks at the release pointer.
        shutdown_s: seconds that requests in flight are given when the process is told to stop.
        alert_webhook: address that alerts are posted to; it may hold a token. None posts nowhere.
        trackers: where training runs are recorded, comma-separated in the variable; an empty one means nowhere. Their
            own variables say more: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, WANDB_MODE, WANDB_PROJECT.
        phrasing_url: base of an OpenAI-compatible chat protocol, such as https://api.openai.com/v1, whose model puts
            replies into words; None leaves them as they are composed.
        phrasing_model: that server's name of the model.
        phrasing_key: sent to that server alone.
        phrasing_timeout_s: seconds that it may take.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    retrieval_url: HttpUrl | None = None
    timeout_s: float = Field(default=2.0, gt=0)
    online_store_url: SecretStr | None = None
    milvus_uri: str | None = None
    milvus_token: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False
    max_body_bytes: int = Field(default=2_000_000, gt=0)
    max_batch: int = Field(default=10_000, gt=0)
    release_poll_s: float = Field(default=2.0, gt=0)
    shutdown_s: int = Field(default=20, ge=0)
    alert_webhook: SecretStr | None = None
    trackers: Annotated[tuple[TrackerName, ...], NoDecode] = ("tensorboard",)
    phrasing_url: HttpUrl | None = None
    phrasing_model: str = "default"
    phrasing_key: SecretStr | None = None
    phrasing_timeout_s: float = Field(default=10.0, gt=0)

    @field_validator("api_keys", "trackers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @classmethod
    def from_environment(cls, *, host: str | None = None, port: int | None = None) -> Self:
        """Read the settings; a given host or port goes before its variable.

        A variable with our prefix that stands for no setting is logged with the nearest known name.

        Raises:
            InvalidSettingsError: a value is not accepted; names the variable, what was expected and found.
        """
        known = [f"{_PREFIX}{name.upper()}" for name in cls.model_fields]
        for name in os.environ:
            if name.startswith(_PREFIX) and name not in known:
                _log.warning("setting_unknown", variable=name, message=unknown_name("variable", name, known))
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        try:
            return cls.model_validate(cls().model_dump() | given) if given else cls()
        except ValidationError as error:
            raise InvalidSettingsError(_describe(error)) from error


def require_keys_if_public(settings: Settings) -> None:
    """Refuse to serve other machines without keys.

    Raises:
        KeysRequiredError: the host is not a loopback address and there is no key; names both ways to mend it.
    """
    if settings.api_keys or _is_loopback(settings.host):
        return
    raise KeysRequiredError(
        f"expected API keys to bind {settings.host!r}, which other machines can reach, found none: "
        f"set {_PREFIX}API_KEYS to one or more comma-separated keys, or bind 127.0.0.1"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, or nothing at all, which binds every address


def _describe(error: ValidationError) -> str:
    """Name each variable with what was expected and found; any text is a secret, so none is ever repeated here."""
    lines = []
    for problem in error.errors(include_input=False):
        variable = _PREFIX + "_".join(str(part) for part in problem["loc"][:1]).upper()
        lines.append(f"{variable}: {problem['msg']}, found {os.environ.get(variable, 'another value')!r}")
    return "; ".join(lines)
