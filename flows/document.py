"""One YAML document read with its line numbers and checked against a pydantic model, so that an error can be mended.

Knows nothing of workspaces: any model whose sub-models forbid extra keys gets errors that name the file, the line, the
path, what was expected and what was found, and for an unknown key the nearest known one.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infra.errors import InvalidInputError, NotFoundError, unknown_name

_BOOL: Final = "tag:yaml.org,2002:bool"
_FLOAT: Final = "tag:yaml.org,2002:float"

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]

# One message lists at most this many problems: a file of another kind yields one per key, and the rest say no more.
MAX_PROBLEMS = 12


class DocumentError(InvalidInputError):
    """The file is not YAML, or its content is not what the model declares."""

    title: ClassVar[str] = "Invalid file"


class DocumentNotFoundError(NotFoundError):
    """The file does not exist."""

    title: ClassVar[str] = "File not found"


class _Loader(yaml.SafeLoader):
    """Safe loading with the booleans and numbers of YAML 1.2.

    In 1.1, which PyYAML follows, `on` and `no` are booleans (so a key `on` is lost) and 1e-4 is text.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_BOOL, _FLOAT}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed YAML mapping.

    Attributes:
        path: the file it was read from.
        data: the mapping as plain Python values.
        lines: line number (from 1) of each path inside it.
    """

    path: Path
    data: Mapping[str, Any]
    lines: Mapping[Location, int]


def read_document(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises:
        DocumentNotFoundError: no such file.
        DocumentError: not UTF-8, not YAML (with line and column), a key given twice, or no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentNotFoundError(f"expected a file at {path}, found none") from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path}: expected a UTF-8 text file: {error}") from error
    try:
        data, lines = _load(text, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(f"{place}: not valid YAML: {reason}") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: PyYAML passes on what a bad timestamp such as 2017-13-40 raises in datetime.
        raise DocumentError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise DocumentError(f"{path}: expected a mapping of sections at the top level, found {_found(data)}")
    return Document(path=path, data=data, lines=lines)


def parse_document(document: Document, model: type[Model]) -> Model:
    """Validate a document.

    Raises:
        DocumentError: every problem found, one a line: line number, path, what was expected and found.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(detail, document, model) for detail in details[:MAX_PROBLEMS]]
        if len(details) > MAX_PROBLEMS:
            problems.append(f"... and {len(details) - MAX_PROBLEMS} more")
        count = "1 problem" if len(details) == 1 else f"{len(details)} problems"
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise DocumentError(f"{document.path}: {count}\n{listing}") from error


def _load(text: str, path: Path) -> tuple[object, dict[Location, int]]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}, {}
        return loader.construct_document(root), dict(_lines(root, (), path, set()))
    finally:
        loader.dispose()


def _lines(node: yaml.Node, path: Location, file: Path, seen: set[int]) -> Iterator[tuple[Location, int]]:
    """Yield each path with its line; an aliased node is walked once, which also ends a recursive one."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            yield (*path, position), child.start_mark.line + 1
            yield from _lines(child, (*path, position), file, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: dict[str, int] = {}
        for key, child in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in keys:
                # PyYAML would keep the last silently; the YAML specification (1.2, 3.2.1.3) asks for unique keys.
                where = ".".join(str(part) for part in (*path, name))
                raise DocumentError(
                    f"{file}:{line}: expected each key once, found {where} again (first on line {keys[name]})"
                )
            keys[name] = line
            yield (*path, name), line
            yield from _lines(child, (*path, name), file, seen)


def _problem(detail: ErrorDetails, document: Document, model: type[BaseModel]) -> str:
    location, kind = detail["loc"], detail["type"]
    path = _data_path(location, document.data)
    if kind == "missing":
        path = (*path, location[-1])
    line = next((document.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in document.lines), 1)
    place = f"line {line}, {'.'.join(str(part) for part in path) or 'top level'}"
    if kind == "extra_forbidden":
        return f"{place}: {unknown_name('key', str(location[-1]), _known_keys(model, location[:-1]))}"
    if kind == "missing":
        return f"{place}: expected a value for the required key {str(location[-1])!r}, found none"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in {"value_error", "assertion_error"}:
        return f"{place}: {message}"
    wanted = message.removeprefix("Input should be ")
    expected = f"expected {wanted}" if wanted != message else message[:1].lower() + message[1:]
    return f"{place}: {expected}, found {_found(detail['input'])}"


def _data_path(location: Location, data: object) -> Location:
    """Return the part of pydantic's location that stands in the file: a union's member tag, say, does not."""
    path: list[str | int] = []
    for part in location:
        children = dict(enumerate(data)) if isinstance(data, list) else data if isinstance(data, dict) else {}
        if part in children:
            data = children[part]
            path.append(part)
    return tuple(path)


def _known_keys(model: type[BaseModel], parents: Location) -> list[str]:
    """Return the keys that the model at a location accepts."""
    current = [model]
    for part in parents:
        fields = [field for each in current for name, field in each.model_fields.items() if part in (name, field.alias)]
        inner = [found for field in fields for found in _models(field.annotation)]
        # Neither a field nor a tag: a list's position or a mapping's free key, whose values are the same models.
        tagged = [each for each in current if part == each.__name__ or _has_tag(each, part)]
        current = inner or tagged or current
    return sorted({field.alias or name for each in current for name, field in each.model_fields.items()})


def _has_tag(model: type[BaseModel], tag: str | int) -> bool:
    annotations = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(annotation) is Literal and tag in get_args(annotation) for annotation in annotations)


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return every model that a value of this annotation may hold: itself, or inside unions, lists and mappings."""
    origin = get_origin(annotation)
    if origin is Literal:
        return []
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    if origin is not None:
        return [found for argument in get_args(annotation) for found in _models(argument)]
    return []


def _found(value: object) -> str:
    """Return a value in a file author's words, shortened."""
    if value is None:
        return "nothing"
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    words = {
        bool: "true or false",
        str: "text",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return f"{text} ({words.get(type(value), type(value).__name__)})"
