"""Templates of pages: Jinja2 that escapes every value."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def load_templates(package: str) -> "Environment":
    """Load the templates of a package.

    Args:
        package: Dotted name of a package with a folder `templates`.

    Returns:
        An environment that escapes values and refuses names that have none.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        # Names of tracks, models and files are untrusted, so every template escapes them.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
