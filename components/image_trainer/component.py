"""ImageTrainer: TFX's Trainer with two more inputs, the feature bank and the data blessing.

TFX's own spec has no channel for them. A component with an extended spec and the same executor
runs locally and compiles for Kubeflow.
"""

from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_artifacts import Examples, Model, ModelRun
from tfx.types.standard_component_specs import TrainerSpec
from tfx.utils import json_utils

from imgpipe.components.artifacts import DataBlessing
from imgpipe.components.blessings import require_data_blessing
from imgpipe.models import feature_names as names

BANK = "bank"
DATA_BLESSING = "data_blessing"


class ImageTrainerSpec(TrainerSpec):
    """TFX's TrainerSpec with channels for the feature bank and the data blessing."""

    INPUTS = {  # noqa: RUF012 - TFX reads a plain dict
        **TrainerSpec.INPUTS,
        BANK: ChannelParameter(type=Examples),
        DATA_BLESSING: ChannelParameter(type=DataBlessing),
    }


class Executor(GenericExecutor):
    """Runs ``run_fn`` with the URI of the feature bank in its custom config."""

    def _GetFnArgs(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> Any:
        require_data_blessing(artifact_utils.get_single_uri(input_dict[DATA_BLESSING]))
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        fn_args.custom_config = {
            **(fn_args.custom_config or {}),
            "bank_uri": artifact_utils.get_single_uri(input_dict[BANK]),
        }
        return fn_args


class ImageTrainer(BaseComponent):
    """Trains the head on the feature bank and exports the whole model."""

    SPEC_CLASS = ImageTrainerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        run_fn: str,
        examples: Channel,
        bank: Channel,
        data_blessing: Channel,
        custom_config: dict[str, Any],
        schema: Channel | None = None,
        hyperparameters: Channel | None = None,
    ) -> None:
        """Create the component.

        Args:
          run_fn: Dotted path of the training function.
          examples: Kept images, from which parity samples and warm-up requests are taken.
          bank: Features of FeatureBank.
          data_blessing: Blessing of DataGate.
          custom_config: JSON-ready settings for `run_fn`. They include a hash of the source code,
            so that TFX does not reuse the cached model of changed code.
          schema: Schema of the images' metadata, recorded for lineage only.
          hyperparameters: Best hyperparameters of ImageTuner, which replace those of the settings.
        """
        super().__init__(
            spec=ImageTrainerSpec(
                run_fn=run_fn,
                examples=examples,
                bank=bank,
                data_blessing=data_blessing,
                schema=schema,
                hyperparameters=hyperparameters,
                train_args=trainer_pb2.TrainArgs(splits=[names.TRAIN]),
                eval_args=trainer_pb2.EvalArgs(splits=[names.VALIDATION]),
                custom_config=json_utils.dumps(custom_config),
                model=Channel(type=Model),
                model_run=Channel(type=ModelRun),
            )
        )
