"""Where things lie in a workspace folder. Apart from the config, whose components take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Final, Self

from flows.document import DocumentNotFoundError
from infra.errors import ConflictError, InvalidInputError, unknown_name

WORKSPACE_FILE: Final = "polyrank.yaml"
STATE_FOLDER: Final = ".polyrank"
# The workspace of the demo, and the start of one's own shop.
TEMPLATE: Final = "complete_journey"
_TEMPLATES: Final = "templates"


class WorkspaceExistsError(ConflictError):
    """The folder has a workspace file already."""

    title: ClassVar[str] = "Workspace exists"


def template_names() -> list[str]:
    """Return the names of the shipped workspace files."""
    found = (Path(entry.name) for entry in files("flows").joinpath(_TEMPLATES).iterdir())
    return sorted(name.stem for name in found if name.suffix == ".yaml")


@dataclass(frozen=True, kw_only=True)
class WorkspaceFolder:
    """A folder with a `polyrank.yaml`; everything that flows write lies below its `.polyrank/`.

    Attributes:
        folder: absolute path of the folder.
    """

    folder: Path

    @classmethod
    def find(cls, folder: Path | str) -> Self:
        """Return a folder that holds a workspace file.

        Raises:
            DocumentNotFoundError: it holds none.
        """
        found = cls(folder=Path(folder).expanduser().resolve())
        if not found.file.is_file():
            raise DocumentNotFoundError(
                f"expected a workspace file at {found.file}, found none: name its folder with --workspace, "
                "or write one with `polyrank init`"
            )
        return found

    @classmethod
    def create(cls, folder: Path | str, template: str = TEMPLATE) -> Self:
        """Write a shipped workspace file into a folder, which is made when missing.

        Args:
            folder: where to.
            template: one of `template_names`.

        Raises:
            InvalidInputError: no such template.
            WorkspaceExistsError: the folder has a workspace file already; it is left alone.
        """
        if template not in template_names():
            raise InvalidInputError(unknown_name("template", template, template_names()))
        made = cls(folder=Path(folder).expanduser().resolve())
        made.folder.mkdir(parents=True, exist_ok=True)
        try:
            with made.file.open("xb") as target:
                target.write(files("flows").joinpath(_TEMPLATES, f"{template}.yaml").read_bytes())
        except FileExistsError:
            raise WorkspaceExistsError(f"expected no workspace file at {made.file}, found one") from None
        return made

    @property
    def file(self) -> Path:
        """The workspace file."""
        return self.folder / WORKSPACE_FILE

    @property
    def state(self) -> Path:
        """Everything that flows write."""
        return self.folder / STATE_FOLDER

    @property
    def tables(self) -> Path:
        """Canonical tables."""
        return self.state / "tables"

    @property
    def feast(self) -> Path:
        """The feature store's registry, offline and online data."""
        return self.state / "feast"

    @property
    def runs(self) -> Path:
        """Finished steps."""
        return self.state / "runs"

    @property
    def releases(self) -> Path:
        """Releases and the pointer to the current one."""
        return self.state / "releases"

    @property
    def events(self) -> Path:
        """The durable logs of events and of changes of items, and what online rows start from."""
        return self.state / "events"

    @property
    def event_log(self) -> Path:
        """The durable log of events that services took."""
        return self.events / "events.sqlite"

    @property
    def item_log(self) -> Path:
        """The durable log of changes of items that services took."""
        return self.events / "items.sqlite"

    @property
    def turn_log(self) -> Path:
        """The durable log of conversation turns that services replied to."""
        return self.state / "turns" / "turns.sqlite"

    @property
    def user_base(self) -> Path:
        """Each user's events as of the last refresh, which online rows start from."""
        return self.events / "base"

    @property
    def logs(self) -> Path:
        """Training logs."""
        return self.state / "logs"

    @property
    def reports(self) -> Path:
        """A folder of reports per release; a release itself is sealed before it is evaluated."""
        return self.state / "reports"

    @property
    def monitor(self) -> Path:
        """What the monitor remembers, and what it writes for people and programs."""
        return self.state / "monitor"
