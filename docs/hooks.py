"""Generate the pages of the reference that follow from the code: commands and settings.

MkDocs calls `on_files` when it builds the site. The pages themselves need no MkDocs.
"""

import html
import inspect
import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import typer.main
from typer.cli import get_docs_for_click

from sfisep_cli.app import app
from sfisep_core.config_values import Range
from sfisep_core.models.registry import FAMILIES
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_files import PRESETS, read_settings

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_INTRODUCTION = """# Settings

These are all keys of a configuration file, as `sfisep train --config FILE.toml` takes it, and of
`--set KEY=VALUE`. Dots separate tables: `--set model.tcn.norm=frame` sets what is `norm` in the
table `[model.tcn]` of a file. Texts need quotes in a file. `sfisep train --show-config` prints the
values of a run; [Train a model](../how-to/train-a-model.md) shows how they are used.

A file may build on one of the [presets](#presets) by `base = "NAME"` in its first line. Letters in
angle brackets are the symbols of the papers.
"""

_WORDS = {bool: "true or false", int: "integer", float: "number", str: "text"}


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    for path, page in (("cli", cli_page()), ("settings", settings_page())):
        files.append(File.generated(config, f"reference/{path}.md", content=page))
    return files


def cli_page() -> str:
    """Describe all commands with their arguments and options, in Markdown."""
    command = typer.main.get_command(app)
    context = typer.Context(command)
    text = get_docs_for_click(obj=command, ctx=context, name="sfisep", title="Command line")
    for each in _commands(command):  # Typer cuts their descriptions after 45 characters
        short, whole = (each.get_short_help_str(limit) for limit in (45, 1000))
        text = text.replace(f"* `{each.name}`: {short}\n", f"* `{each.name}`: {whole}\n")
    return re.sub(r"^(\* `[^`\n]+`: )(.*)$", _describe_parameter, text, flags=re.MULTILINE)


def _commands(command: Any) -> Iterator[Any]:
    for child in getattr(command, "commands", {}).values():
        yield child
        yield from _commands(child)


def _describe_parameter(line: re.Match[str]) -> str:
    """Put into words what Typer appends to a description, as `  [default: (8000); x>=4000]`."""
    text, bracket, notes = line[2].removesuffix("]").partition("  [")
    if not bracket:
        return line[1] + _markdown(line[2])
    # The range stands behind a default, and before "required".
    found = re.search(r"\S*x[<>][^\s;]+", notes)
    bounds = found[0] if found else ""
    default = notes.replace(bounds, "").strip("; ").removeprefix("default: ")
    if default.startswith("("):  # a description of the default
        shown = f"Default: {_markdown(default[1:-1])}"
    else:
        shown = "Required" if default == "required" else f"Default: `{default}`"
    if bounds:
        bounds = re.sub(r"(\S+)<=x<=(\S+)", r"\1 to \2", bounds).replace("x>=", "at least ")
        shown += f"; {bounds}"
    return f"{line[1]}{_markdown(text)} *{shown}.*"


def settings_page() -> str:
    """Describe all settings of training runs and of the families, in Markdown."""
    anchors: dict[type, str] = {}
    parts = [_INTRODUCTION, *_section(TrainingConfig, "Training", anchors, anchor="training")]
    for family, (kind, _) in FAMILIES.items():
        for base in _bases(kind):
            if base not in anchors:
                parts += _section(base, _title(base), anchors, prefix="model.")
        parts += _section(kind, f"`{family}`", anchors, prefix="model.", anchor=family)
    return "\n".join([*parts, _presets()])


def _section(
    kind: type,
    title: str,
    anchors: dict[type, str],
    *,
    prefix: str = "",
    anchor: str = "",
    level: int = 2,
) -> list[str]:
    """Describe the fields of a dataclass, and after it the tables among them.

    Args:
        kind: The dataclass.
        title: Title of the section.
        anchors: Where each dataclass is described on the page; the new ones are added.
        prefix: What precedes the names of the fields in those of settings.
        anchor: Where this one is; by default the name of its class.
        level: Level of the title.

    Returns:
        The sections.
    """
    shared = [base for base in _bases(kind) if base in anchors]
    anchors[kind] = anchor or kind.__name__.lower()
    summary, _ = _parts_of_docstring(kind)
    lines = [f"{'#' * level} {title} {{ #{anchors[kind]} }}\n", f"{_markdown(summary)}\n"]
    if shared:
        lines.append(_inherited(kind, prefix, {base: anchors[base] for base in shared}))
    documented = {f.name for base in shared for f in fields(base)} - attributes_of(kind).keys()
    hints = get_type_hints(kind, include_extras=True)
    tables: list[str] = []
    for field in fields(kind):
        if field.name in documented:
            continue
        key, hint = f"{prefix}{field.name}", hints[field.name]
        table, many = _table(hint)
        if table is not None and table not in anchors:
            tables += _section(
                table,
                f"`[[{key}]]`" if many else f"`{key}`",
                anchors,
                prefix="" if many else f"{key}.",
                level=3,
            )
        values = _values(hint) if table is None else _link(key, anchors[table], many=many)
        default = _toml(_default(field))
        shown = "" if default == "{}" else f"; default `{default}`"
        meaning = _markdown(_meaning(kind, field.name))
        lines.append(f"`{key}` — {values}{shown}\n:   {meaning}\n")
    return [*lines, *tables]


def _link(key: str, anchor: str, *, many: bool) -> str:
    name = f"tables `[[{key}]]`" if many else "table"
    return f"{name} of [these keys](#{anchor})"


def _bases(kind: type) -> list[type]:
    """Return the dataclasses from which one derives, the most general first."""
    return [base for base in reversed(kind.__mro__[1:]) if is_dataclass(base)]


def _inherited(kind: type, prefix: str, anchors: Mapping[type, str]) -> str:
    """Name the bases of a dataclass, and the defaults that are other than in them."""
    links = " and the ".join(
        f"[{_title(base)[:1].lower()}{_title(base)[1:]}](#{anchor})"
        for base, anchor in anchors.items()
    )
    before = {f.name: _default(f) for base in anchors for f in fields(base)}
    others = [
        f"`{prefix}{field.name} = {_toml(_default(field))}`"
        for field in fields(kind)
        if field.name in before.keys() - attributes_of(kind).keys()
        and before[field.name] != _default(field)
    ]
    return f"Besides, it has the {links}{', with ' if others else ''}{', '.join(others)}.\n"


def _default(field: "Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _title(kind: type) -> str:
    summary, _ = _parts_of_docstring(kind)
    return summary.partition(";")[0].removesuffix(".")


def _meaning(kind: type, name: str) -> str:
    return next(text for k in kind.__mro__ if (text := attributes_of(k).get(name)))


def attributes_of(kind: type) -> dict[str, str]:
    """Read the section Attributes in the docstring of a class, without those of its bases.

    Args:
        kind: The class.

    Returns:
        Meanings by name.
    """
    _, sections = _parts_of_docstring(kind)
    entries = re.findall(
        r"^    (\w+): ((?:.|\n     )*)", sections.get("Attributes", ""), re.MULTILINE
    )
    return {name: " ".join(text.split()) for name, text in entries}


def _parts_of_docstring(kind: type) -> tuple[str, dict[str, str]]:
    """Split the docstring of a class into its text and its sections by title."""
    text, *rest = re.split(r"^(\w+):\n", inspect.cleandoc(kind.__doc__ or ""), flags=re.MULTILINE)
    return text.strip(), dict(zip(rest[::2], rest[1::2], strict=True))


def _table(hint: Any) -> tuple[Any, bool]:
    """Return the dataclass that a setting is a table of, if any, and whether there are many."""
    inner, many = (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)
    return (inner if is_dataclass(inner) else None), many


def _values(hint: Any) -> str:
    """Describe the values of a setting from its type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = next(a for a in arguments if isinstance(a, Range))
        parity = "" if limits.parity == "any" else f"{limits.parity} "
        return f"{parity}{_WORDS[arguments[0]]}, {_limits(limits)}"
    if origin is Literal:
        *choices, last = (f"`{choice}`" for choice in arguments)
        return f"{', '.join(choices)} or {last}" if choices else last
    if origin in (Union, types.UnionType):
        return ", or ".join("`none`" if a is type(None) else _values(a) for a in arguments)
    if origin is tuple:
        number = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return f"list{number}, each: {_values(arguments[0])}"
    if origin is dict:
        names = [f"`{name}`" for name in get_args(arguments[0])]
        return f"table of {', '.join(names)}, each: {_values(arguments[1])}" if names else "table"
    return _WORDS[hint]


def _limits(limits: Range) -> str:
    low, high = f"{limits.low:,}", f"{limits.high:,}"
    lowest = f"above {low}" if limits.above_low else f"at least {low}"
    if math.isinf(limits.high):
        return lowest
    if limits.above_low or limits.below_high:
        return f"{lowest} and {'below' if limits.below_high else 'at most'} {high}"
    return f"{low} to {high}"


def _toml(value: Any) -> str:
    """Write a value as in a configuration file; of a table only what differs from its defaults."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return '"none"'
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if is_dataclass(value):
        kind: Any = type(value)
        usual = kind()
        pairs = {f.name: getattr(value, f.name) for f in fields(value)}
        value = {name: item for name, item in pairs.items() if item != getattr(usual, name)}
    if isinstance(value, Mapping):
        return (
            f"{{ {', '.join(f'{k} = {_toml(v)}' for k, v in value.items())} }}" if value else "{}"
        )
    return str(value)


def _presets() -> str:
    """List the presets with the first sentence of the comment above each."""
    rows = ["## Presets\n", "| preset | family | what |", "|---|---|---|"]
    for file in sorted(PRESETS.glob("*.toml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.lstrip("# ") for line in takewhile(lambda x: x[:1] == "#", lines))
        sentence = re.match(r".*?[.](?= |$)", comment)
        family = read_settings(Path(file.stem))["family"]
        what = _markdown(sentence[0] if sentence else comment)
        rows.append(f"| `{file.stem}` | [`{family}`](#{family}) | {what} |")
    return "\n".join(rows) + "\n"


def _markdown(text: str) -> str:
    """Escape what Markdown would read as a mark, and set quoted words as code."""
    spans = text.split("`")
    for number in range(0, len(spans), 2):  # between them lies code
        plain = html.escape(spans[number], quote=False).replace("*", r"\*")
        spans[number] = re.sub(r'(?<!=)"([\w.-]+)"', r"`\1`", plain)
    return "`".join(spans)
