"""Changes to Typer for every command: types of parameters, and messages about values.

Typer names the type of every parameter in the help. Flags have no value (`--quiet`, not `--quiet
<bool>`), and the type of an argument is a Python type (`<list[Path]>`) that tells a reader nothing.
Without them there is more room for explanations in narrow terminals.
Typer's message about an invalid value contains neither the value nor its unit.
"""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sfisep_core.errors import ConfigError
from sfisep_core.foreign import shown

_MAX_SHOWN = 100
"""Maximum length of an invalid value in a message."""


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
    option = f"{max(param.opts, key=len)} {getattr(param, 'metavar', None) or ''}".rstrip()
    reason = error.message.removeprefix("Value error, ").rstrip(".")
    cause: Any = error.__cause__  # from pydantic, if it checked the value
    value = str(cause.errors()[0]["input"]) if hasattr(cause, "errors") else ""
    if value and value not in reason:
        reason += f", got {shown(value)}"
    path = error.ctx.command_path if error.ctx is not None else "sfisep"
    msg = f"{option}: {reason[:1].lower()}{reason[1:]}: see `{path} --help`"
    return ConfigError(msg)


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

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_needless_types(super().get_params(ctx))


class Group(TyperGroup):
    """A command that has commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_needless_types(super().get_params(ctx))
