"""Settings for training that come with the package, one TOML file each."""

from pathlib import Path

PRESETS = Path(__file__).parent


def list_presets() -> list[str]:
    """Return the names of all presets."""
    return sorted(preset.stem for preset in PRESETS.glob("*.toml"))
