"""SchemaGen: provides the accepted schema, or infers one until a schema is accepted.

TFX has one component that infers (SchemaGen) and another one that imports (ImportSchemaGen). Which
of them is needed changes from run to run, and a compiled pipeline cannot change its tasks, so that
one component does both.
"""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics, Schema

from imgpipe.components.data_gate import schema as schemas
from imgpipe.components.data_gate.component import infer_schema

FILE = "schema.pbtxt"  # the name that TFX's components give it


@component
def SchemaGen(
    statistics: InputArtifact[ExampleStatistics],
    schema: OutputArtifact[Schema],
    accepted_schema: Parameter[str] = "",
    code: Parameter[str] = "",
) -> None:
    """Write the schema that the data is validated against.

    Args:
        statistics: Statistics of the metadata of the kept images.
        schema: Output: the schema in protobuf's text format.
        accepted_schema: Path of the accepted schema. Its name contains a digest of its content, so
            that TFX's cache notices another schema. "" infers a schema from the statistics.
        code: Fingerprint of the source code that is used, which is part of TFX's cache key.

    Raises:
        ConfigError: The file at `accepted_schema` is not a schema.
        ResourceError: There are no statistics to infer a schema from.
    """
    found = schemas.read(Path(accepted_schema)) if accepted_schema else infer_schema(statistics.uri)
    schemas.write(found, f"{schema.uri}/{FILE}")
