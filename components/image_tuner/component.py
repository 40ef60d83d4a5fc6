"""ImageTuner: TFX's Tuner with two more inputs, the feature bank and the data blessing."""

from typing import Any

from tfx.components.tuner import executor as stock
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.channel import Channel
from tfx.types.standard_artifacts import HyperParameters, TunerResults
from tfx.types.standard_component_specs import TunerSpec
from tfx.utils import json_utils

from imgpipe.components.blessings import require_data_blessing
from imgpipe.components.image_trainer.component import BANK, DATA_BLESSING, FURTHER_INPUTS
from imgpipe.models import feature_names as names


class ImageTunerSpec(TunerSpec):
    """TFX's TunerSpec with channels for the feature bank and the data blessing."""

    INPUTS = {**TunerSpec.INPUTS, **FURTHER_INPUTS}  # noqa: RUF012 - TFX reads a plain dict


class Executor(stock.Executor):
    """Runs ``tuner_fn`` with the URI of the feature bank in its custom config."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Search and write the best hyperparameters; see TFX's executor for the arguments."""
        require_data_blessing(artifact_utils.get_single_uri(input_dict[DATA_BLESSING]))
        config = json_utils.loads(exec_properties[specs.CUSTOM_CONFIG_KEY])
        config["bank_uri"] = artifact_utils.get_single_uri(input_dict[BANK])
        given = {**exec_properties, specs.CUSTOM_CONFIG_KEY: json_utils.dumps(config)}
        super().Do(input_dict, output_dict, given)


class ImageTuner(BaseComponent):
    """Searches hyperparameters of the head on the feature bank."""

    SPEC_CLASS = ImageTunerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        tuner_fn: str,
        examples: Channel,
        bank: Channel,
        data_blessing: Channel,
        custom_config: str | RuntimeParameter,
    ) -> None:
        """Create the component.

        Args:
            tuner_fn: Dotted path of the function that creates the tuner.
            examples: Kept images, recorded for lineage only.
            bank: Features of FeatureBank.
            data_blessing: Blessing of DataGate.
            custom_config: JSON of the custom config of ImageTrainer, with the number of "trials".
        """
        super().__init__(
            spec=ImageTunerSpec(
                tuner_fn=tuner_fn,
                examples=examples,
                bank=bank,
                data_blessing=data_blessing,
                train_args=trainer_pb2.TrainArgs(splits=[names.TRAIN]),
                eval_args=trainer_pb2.EvalArgs(splits=[names.VALIDATION]),
                custom_config=custom_config,
                best_hyperparameters=Channel(type=HyperParameters),
                tuner_results=Channel(type=TunerResults),
            )
        )
