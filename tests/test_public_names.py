"""What `import sfisep_core` offers, and what it costs."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sfisep_core
from sfisep_core import CheckpointError, errors, load_model, results
from sfisep_core.models.contract import SeparationModel
from sfisep_core.pretrained.resolve import model_path, resolve_model
from sfisep_core.separation.output import Output
from sfisep_core.separation.result import Separation
from sfisep_core.separation.separator import Separator
from sfisep_core.separation.settings import MethodOptions, SeparationSettings

OBJECTS = {
    "MethodOptions": MethodOptions,
    "Output": Output,
    "SavedStems": results.SavedStems,
    "SeparatedFile": results.SeparatedFile,
    "Separation": Separation,
    "SeparationModel": SeparationModel,
    "SeparationSettings": SeparationSettings,
    "Separator": Separator,
    "load_model": resolve_model,
}
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.SfisepError)
}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_names_are_the_objects_themselves() -> None:
    assert {name: getattr(sfisep_core, name) for name in sfisep_core.__all__} == OBJECTS | ERRORS
    assert set(sfisep_core.__all__) <= set(dir(sfisep_core))


def test_package_alone_loads_nothing_heavy() -> None:
    code = "import sys, sfisep_core; dir(sfisep_core); print({'torch', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_errors_load_nothing_heavy() -> None:
    code = "import sys; from sfisep_core import ConfigError; print('numpy' in sys.modules)"
    assert python(code) == "False"


@pytest.mark.slow
def test_models_are_loaded_by_name_and_by_path() -> None:
    by_name, by_path = load_model("default"), load_model(model_path("default"))
    assert isinstance(by_path, SeparationModel)
    for name, weights in by_name.state_dict().items():
        assert torch.equal(by_path.state_dict()[name], weights)
    missing = Path("missing.safetensors")
    with pytest.raises(CheckpointError, match=r"^model missing\.safetensors: expected "):
        load_model(missing)


@pytest.mark.slow
def test_star_import_brings_all_and_loads_no_scipy() -> None:
    code = (
        "import sys; from sfisep_core import *; print(Separator.__name__, 'scipy' in sys.modules)"
    )
    assert python(code) == "Separator False"


def test_settings_load_nothing_heavy() -> None:
    code = "import sys; from sfisep_core import SeparationSettings, MethodOptions; "
    code += "print({'torch', 'numpy'} & set(sys.modules))"
    assert python(code) == "set()"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"^module 'sfisep_core' has no attribute 'Seperator'"):
        sfisep_core.Seperator  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
def test_type_checkers_see_the_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "from sfisep_core import Separation, Separator, load_model\n"
        "result: Separation = Separator(load_model('default')).separate('song.wav')\n"
        "result.save('stems', track=1)\n"
        "from sfisep_core import Seperator\n"
    )
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = True\nincremental = False\nfollow_imports = silent\n"
        "ignore_missing_imports = True\n"
        "[mypy-torch.*,numpy.*]\nfollow_imports = skip\n"  # a minute of reading
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(settings), str(program)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "MYPYPATH": str(Path(sfisep_core.__file__).parents[1])},
    )
    found = re.findall(r":(\d+): error: .*\[(.*)\]$", done.stdout, flags=re.MULTILINE)
    assert found == [("3", "arg-type"), ("4", "attr-defined")], done.stdout
