"""The body of the package of TFX's components is executed when one of its names is first used.

Importing a submodule does not execute it.
"""

from __future__ import annotations

import sys

import pytest

from imgpipe.components.common import light_tfx
from tests import python_program

_REAL = """
import sys
import imgpipe.components
from tfx.components.schema_gen import component
print([name for name in ("kubernetes", "docker", "keras_tuner", "tensorflow_transform")
       if name in sys.modules])
from tfx.components.evaluator import executor
print(executor.tfma.EvalConfig.__name__, "kubernetes" in sys.modules)
import tfx.components
print(tfx.components.schema_gen.component is component, tfx.components.SchemaGen.__module__)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Yield the name of a package whose execution is put off and whose body counts executions."""
    folder = tmp_path / "put_off_package"
    folder.mkdir()
    body = "import sys\nsys.executions.append(__name__)\nfrom .part import Name\nOther = 2\n"
    (folder / "__init__.py").write_text(body)
    (folder / "part.py").write_text("Name = 1\n")
    (folder / "broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "executions", [], raising=False)
    finders = [each for each in sys.meta_path if type(each).__module__ != light_tfx.__name__]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.setattr(light_tfx, "PACKAGE", "put_off_package")
    light_tfx.put_off()
    light_tfx.put_off()
    yield "put_off_package"
    for name in [name for name in sys.modules if name.startswith("put_off_package")]:
        del sys.modules[name]


def test_importing_a_submodule_does_not_execute_the_package_body(package):
    from put_off_package import part
    from put_off_package.part import Name

    assert (part.Name, Name, sys.executions) == (1, 1, [])


def test_using_a_name_executes_the_package_body_once(package):
    import put_off_package

    assert put_off_package.Name == 1
    from put_off_package import Other

    assert (Other, sys.executions) == (2, [package])


@pytest.mark.slow
def test_one_component_of_tfx_does_not_import_the_others():
    found, evaluator, same = python_program.printed(_REAL).splitlines()
    assert found == "[]"
    assert evaluator == "EvalConfig False"  # the body of the package adds it to TFMA
    assert same == "True tfx.components.schema_gen.component"
