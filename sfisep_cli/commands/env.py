"""`sfisep env`: describe the environment."""

from typing import Annotated, Any

import typer

from sfisep_cli.render import show_output
from sfisep_cli.standard_streams import show_facts
from sfisep_core.wording import counted


def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show versions, devices, ffmpeg and the folder of models: what a report of a problem needs."""
    from sfisep_core.separation.environment import describe_environment

    described = describe_environment()
    if as_json:
        show_facts(described)
        return
    rows = _rows(described)
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        show_output(f"{what:{width}}  {value}")


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows: name and description."""
    cpu, models, ffmpeg = found["cpu"], found["models"], found["ffmpeg"]
    return [
        *((name, version or "not installed") for name, version in found["packages"].items()),
        ("libsndfile", found["libsndfile"]),
        ("Python", found["python"]),
        ("system", found["system"]),
        (
            "CPU",
            f"{counted(cpu['cores'], 'core')}, {counted(cpu['threads'], 'thread')}, "
            f"{cpu['capability']}",
        ),
        *(
            (gpu["device"], f"{gpu['name']}, {gpu['memory_gib']} GiB{', bf16' * gpu['bf16']}")
            for gpu in found["gpus"]
        ),
        *([] if found["gpus"] else [("CUDA", "no GPU found")]),
        ("ffmpeg", f"{ffmpeg['version']} ({ffmpeg['path']})" if ffmpeg else "not found"),
        ("models", f"{models['folder']}: {', '.join(models['available'])}"),
        *found["variables"].items(),
    ]
