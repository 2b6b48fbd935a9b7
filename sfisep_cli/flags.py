"""Changes to Typer for every command: types of parameters, and messages about values.

Typer names the type of every parameter in the help. Flags have no value (`--quiet`, not `--quiet
<bool>`), and the type of an argument is a Python type (`<list[Path]>`) that tells a reader nothing.
Without them there is more room for explanations in narrow terminals.
Typer's message about an invalid value contains neither the value nor its unit, and the one about
an argument too many does not say which option takes it.
"""

import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from sfisep_core.errors import ConfigError
from sfisep_core.foreign import shown

_MAX_SHOWN = 100
"""Maximum length of an invalid value in a message."""

_EXPECTED = {"HZ": "a whole number of hertz, such as 44100"}
"""What a value is, by the metavar of its option: ranges alone do not say the unit."""


def _without_needless_types(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
        elif param.param_type_name == "argument":
            param.display_type_rich = _no_type
    return params


def _no_type(ctx: Any) -> None:
    del ctx


def _unusable_value(error: typer.BadParameter) -> ConfigError:
    """Build an error with option, expected and actual value, in the form of all other messages."""
    param: Any = error.param
    option, expected = _shown_option(param), _EXPECTED.get(getattr(param, "metavar", ""))
    reason = error.message.removeprefix("Value error, ").rstrip(".")
    cause: Any = error.__cause__  # from pydantic, if it checked the value
    value = str(cause.errors()[0]["input"]) if hasattr(cause, "errors") else ""
    if value and value not in reason:
        reason += f", got {shown(value)}"
    if expected is not None:
        reason += f", expected {expected}"
    path = error.ctx.command_path if error.ctx is not None else "sfisep"
    msg = f"{option}: {reason[:1].lower()}{reason[1:]}: see `{path} --help`"
    return ConfigError(msg)


def _shown_option(param: Any) -> str:
    return f"{max(param.opts, key=len)} {getattr(param, 'metavar', None) or ''}".rstrip()


class Command(TyperCommand):
    """A command; Typer's own options, such as --help, are among its flags."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the arguments.

        Raises:
            ConfigError: An option has an invalid value.
        """
        try:
            return super().make_context(*args, **kwargs)
        except typer.BadParameter as error:
            if error.param is None or type(error) is not typer.BadParameter:
                raise  # a missing argument: Typer's message is sufficient
            raise _unusable_value(error) from error

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            ConfigError: There are more than the command takes, or an option of one value has two.
        """
        if not ctx.resilient_parsing:
            self._check_repeated(ctx, args)
        ctx.allow_extra_args = True  # to say more of them than Typer does
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            options = [
                _shown_option(param)
                for param in self.params
                if isinstance(param, TyperOption)
                and any(kind in (param.metavar or "") for kind in ("FILE", "DIR"))
            ]
            takes = f"files and folders are named by {', '.join(options)}: " if options else ""
            path = ctx.command_path
            msg = f"{path}: unexpected {shown(' '.join(rest))}: {takes}see `{path} --help`"
            raise ConfigError(msg)
        return rest

    def _check_repeated(self, ctx: Any, args: list[str]) -> None:
        """Check that no value is silently replaced by a later one, as parsers do.

        Raises:
            ConfigError: An option that takes one value is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        if any(param.is_eager for param in given):  # --help comes first
            return
        for param in dict.fromkeys(given):
            once = isinstance(param, TyperOption) and not (
                param.multiple or param.is_flag or param.count
            )
            if once and given.count(param) > 1:
                path = ctx.command_path
                msg = (
                    f"{path}: {_shown_option(param)}: expected once, got {given.count(param)} "
                    f"times: leave one, see `{path} --help`"
                )
                raise ConfigError(msg)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_needless_types(super().get_params(ctx))


class Group(TyperGroup):
    """A command that has commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_needless_types(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names; a file instead of it gets advice."""
        name = args[0]
        if self.get_command(ctx, name) is None and (Path(name).suffix or os.path.exists(name)):
            ctx.fail(f"No such command {name!r}. To separate a file: sfisep separate {name}")
        return super().resolve_command(ctx, args)
