"""ImageTrainer: TFX's Trainer with two more inputs, the feature bank and the data blessing.

TFX's own spec has no channel for them. A component with an extended spec and the same executor
runs locally and compiles for Kubeflow.
"""

from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_artifacts import Examples, Model, ModelRun
from tfx.types.standard_component_specs import TrainerSpec

from imgpipe.components.common.artifacts import DataBlessing, require_data_blessing
from imgpipe.models import names

#: Dotted path of our own training function.
RUN_FN = "imgpipe.models.trainer.run_fn"
BANK = "bank"
DATA_BLESSING = "data_blessing"
#: The two inputs that ImageTrainer has besides those of TFX's Trainer.
FURTHER_INPUTS = {
    BANK: ChannelParameter(type=Examples),
    DATA_BLESSING: ChannelParameter(type=DataBlessing),
}


class ImageTrainerSpec(TrainerSpec):
    """TFX's TrainerSpec with channels for the feature bank and the data blessing."""

    INPUTS = {**TrainerSpec.INPUTS, **FURTHER_INPUTS}  # noqa: RUF012 - TFX reads a plain dict


class ImageTrainerExecutor(GenericExecutor):
    """Runs `run_fn` with the URI of the feature bank in its custom config."""

    # GenericExecutor has no public method between reading the inputs and calling `run_fn`.
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
    EXECUTOR_SPEC = ExecutorClassSpec(ImageTrainerExecutor)

    def __init__(
        self,
        examples: Channel,
        bank: Channel,
        data_blessing: Channel,
        custom_config: str | RuntimeParameter = "{}",
        schema: Channel | None = None,
    ) -> None:
        """Create the component.

        Args:
            examples: Kept images, from which parity samples and warm-up requests are taken.
            bank: Features of FeatureBank.
            data_blessing: Blessing of DataGate.
            custom_config: JSON of the settings for `run_fn`, or a runtime parameter of the JSON.
                The component adds the URI of the bank.
            schema: Schema of the images' metadata, recorded for lineage only.
        """
        super().__init__(
            spec=ImageTrainerSpec(
                run_fn=RUN_FN,
                examples=examples,
                bank=bank,
                data_blessing=data_blessing,
                schema=schema,
                train_args=trainer_pb2.TrainArgs(splits=[names.TRAIN]),
                eval_args=trainer_pb2.EvalArgs(splits=[names.VALIDATION]),
                custom_config=custom_config,
                model=Channel(type=Model),
                model_run=Channel(type=ModelRun),
            )
        )
