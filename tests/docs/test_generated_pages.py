"""The pages of the reference that docs/hooks.py generates: nothing is missing, and all is true."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
import typer.main

from docs.hooks import attributes_of, cli_page, settings_page
from sfisep_cli.app import app
from sfisep_core.models.registry import FAMILIES
from sfisep_core.training.config import TrainingConfig
from sfisep_core.training.config_files import PRESETS

CLI = cli_page()
SETTINGS = settings_page()
KINDS = {"training": TrainingConfig, **{family: kind for family, (kind, _) in FAMILIES.items()}}


def tables_of(kind: type) -> dict[str, type]:
    """Return the fields of a dataclass that are dataclasses, or lists of them, and these."""
    hints = get_type_hints(kind)
    return {
        name: table
        for name, hint in hints.items()
        for table in (hint, *get_args(hint))
        if is_dataclass(table) and isinstance(table, type)
    }


def all_kinds() -> list[type]:
    """Return all dataclasses of settings, with those from which they derive."""
    waiting, kinds = list(KINDS.values()), set()
    while waiting:
        kind = waiting.pop()
        if kind not in kinds:
            kinds.add(kind)
            waiting += [base for base in kind.__mro__[1:] if is_dataclass(base)]
            waiting += tables_of(kind).values()
    return sorted(kinds, key=lambda kind: kind.__qualname__)


def sections_of(page: str, title: str) -> dict[str, str]:
    """Split a page by titles; `title` matches one, with the name in its first group."""
    _, *parts = re.split(title, page, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


COMMAND_SECTIONS = sections_of(CLI, r"^#+ `(sfisep [^`]+)`$")
SETTING_SECTIONS = sections_of(SETTINGS, r"^#{2,} [^\n]* \{ #([\w-]+) \}$")


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for child_name, child in getattr(command, "commands", {}).items():
        yield f"{name} {child_name}", child
        yield from walk(child, f"{name} {child_name}")


COMMANDS = dict(walk(typer.main.get_command(app), "sfisep"))


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__qualname__)
def test_every_setting_has_a_meaning_and_every_meaning_a_setting(kind: type) -> None:
    names = [field.name for field in fields(kind)]
    documented = {name for base in kind.__mro__ for name in attributes_of(base)}
    assert [name for name in names if name not in documented] == []
    assert [name for name in attributes_of(kind) if name not in names] == []


def test_meanings_are_read_whole() -> None:
    @dataclass
    class Example:
        """A class.

        Attributes:
            first: One line.
            second: Starts here, and goes
                on: here.

        Raises:
            third: Is none.
        """

    assert attributes_of(Example) == {
        "first": "One line.",
        "second": "Starts here, and goes on: here.",
    }


def test_every_command_is_on_the_page() -> None:
    assert list(COMMAND_SECTIONS) == list(COMMANDS)
    top = CLI.partition("\n## ")[0]
    for name, command in COMMANDS.items():
        assert command.help
        where = top if name.count(" ") == 1 else COMMAND_SECTIONS[name.rpartition(" ")[0]]
        (said,) = re.findall(rf"^\* `{name.split()[-1]}`: (.*)$", where, re.MULTILINE)
        assert " ".join(command.help.split()).startswith(said.removesuffix("."))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_of_a_command_is_on_the_page(name: str) -> None:
    lines = re.findall(r"^\* `([^`]+)`: (.+)$", COMMAND_SECTIONS[name], re.MULTILINE)
    for parameter in COMMANDS[name].params:
        shown = (*parameter.opts, *parameter.secondary_opts)
        if parameter.param_type_name == "argument":
            shown = (parameter.metavar,)
        for option in shown:
            (said,) = (text for key, text in lines if option in re.split(r"[ ,/]+", key))
            assert said.split()[0] == parameter.help.split()[0]


def test_defaults_and_ranges_of_options_are_in_words() -> None:
    assert "\n* `--sr HZ`: Sampling frequency to separate at, besides the song's own" in CLI
    assert "May be repeated. *Default: 8000; 4000 to 384000.*\n" in CLI
    assert "at which the file works. *Required; 4000 to 384000.*\n" in CLI
    assert re.search(r"`-j, --jobs N`: .* \*Default: `1`; at least 1\.\*$", CLI, re.MULTILINE)
    assert re.search(r"\* `INPUT`: .* \*Required\.\*$", CLI, re.MULTILINE)
    assert re.search(r"`--track NAME`: .*; \\\* and \? stand for", CLI)
    assert not re.search(r"\[default|\[required|[<>]=?\d", CLI)


def linked_with(section: str) -> list[str]:
    """Return a section and those whose settings it has besides, the most general last."""
    text = SETTING_SECTIONS[section]
    besides = re.findall(r"^Besides, it has .*$", text, re.MULTILINE)
    anchors = re.findall(r"\(#([\w-]+)\)", besides[0].partition(", with")[0]) if besides else []
    return [text, *(SETTING_SECTIONS[anchor] for anchor in reversed(anchors))]


def check_settings(kind: type, section: str, prefix: str) -> None:
    """Check that a section has every setting with its default, and those of the tables in it."""
    texts = linked_with(section)
    tables = tables_of(kind)
    for field in fields(kind):
        key = re.escape(f"{prefix}{field.name}")
        entries = re.findall(rf"^`{key}` — (.+)\n:   .+$", "\n".join(texts), re.MULTILINE)
        assert entries, f"{section} has no {key}"
        if field.name in tables:
            (anchor,) = re.findall(r"\[these keys\]\(#([\w-]+)\)", entries[0])
            keys = re.findall(r"^`(\S+)` — ", SETTING_SECTIONS[anchor], re.MULTILINE)
            (own,) = {key[: key.rfind(".") + 1] for key in keys}
            check_settings(tables[field.name], anchor, own)
            continue
        stated = rf"(?:`{key} = |^`{key}` — .*; default `)(.*?)`"
        defaults = re.findall(stated, "\n".join(texts), re.MULTILINE)
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        if value == {}:
            assert defaults == []
        elif value is None:
            assert defaults == ['"none"']
        else:
            plain = list(value) if isinstance(value, tuple) else value
            assert tomllib.loads(f"value = {defaults[0]}") == {"value": plain}, f"{section} {key}"


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_on_the_page_with_its_default(name: str) -> None:
    check_settings(KINDS[name], name, "" if name == "training" else "model.")


def test_ranges_and_choices_are_on_the_page() -> None:
    for line in (
        "`batch_size` — integer, 1 to 65,536; default `6`",
        "`clip_norm` — number, above 0; default `5.0`",
        "`betas` — list of 2, each: number, at least 0 and below 1; default `[0.9, 0.999]`",
        '`precision` — `fp32`, `bf16`, `fp16` or `fp64`; default `"fp32"`',
        "`mixing.sample_rates` — list, each: integer, 1 to 384,000; default "
        "`[8000, 11025, 16000, 22050, 24000, 32000]`",
        "`model.tcn.kernel_size` — odd integer, 1 to 129; default `3`",
        '`model.network.halves_time` — list, each: integer, 0 to 14, or `none`; default `"none"`',
    ):
        assert f"\n{line}\n:   " in SETTINGS


def test_every_preset_is_on_the_page() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (.+)\.? \|$", SETTINGS, re.MULTILINE))
    assert sorted(rows) == sorted(file.stem for file in PRESETS.glob("*.toml"))
    for name, said in rows.items():
        first = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        words = re.findall(r"\w+", first)
        assert re.findall(r"\w+", said)[: len(words)] == words[: len(re.findall(r"\w+", said))]
