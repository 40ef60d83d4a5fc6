"""The body of the package of TFX's components is executed when one of its names is first used.

Importing a submodule does not execute it.
"""

import pytest

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


@pytest.mark.slow
def test_one_component_of_tfx_does_not_import_the_others():
    found, evaluator, same = python_program.printed(_REAL).splitlines()
    assert found == "[]"
    assert evaluator == "EvalConfig False"  # the body of the package adds it to TFMA
    assert same == "True tfx.components.schema_gen.component"
