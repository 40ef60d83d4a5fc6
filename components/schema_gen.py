"""SchemaGen: provides the accepted schema, or infers one until a schema is accepted.

TFX has one component that infers (SchemaGen) and another one that imports (ImportSchemaGen). Which
of them is needed changes from run to run, and a compiled pipeline cannot change its tasks, so that
one component does both.
"""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics, Schema

from imgpipe.components.data_gate import schema as schemas
from imgpipe.components.data_gate.accepted import SCHEMA_FILE
from imgpipe.components.data_gate.data_gate import infer_schema


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
        accepted_schema: The accepted schema in protobuf's text format. "" infers a schema from the
            statistics.
        code: Fingerprint of the source code that is used, which is part of TFX's cache key.

    Raises:
        ConfigError: `accepted_schema` is not a schema.
        ResourceError: There are no statistics to infer a schema from.
    """
    inferred = schemas.parse(accepted_schema) if accepted_schema else infer_schema(statistics.uri)
    schemas.write(inferred, f"{schema.uri}/{SCHEMA_FILE}")
