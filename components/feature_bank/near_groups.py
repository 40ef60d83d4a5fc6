"""Stores the groups of near-duplicates in the bank, for components that divide it into folds."""

import json

import tensorflow as tf

from imgpipe.components.image_filter.near_duplicates.matching import FILE
from imgpipe.components.storage import records
from imgpipe.models.features.image_groups import NEAR_FILE


def write_near_groups(quarantine: str, features: str) -> None:
    """Write the groups of near-duplicates of the kept images to the bank.

    Args:
        quarantine: URI of the quarantine, which lists all groups with the paths of their images.
        features: URI of the bank.
    """
    groups: list[list[str]] = []
    path = f"{quarantine}/{FILE}"
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, "r") as file:
            for line in records.json_lines(file):
                groups.append([one["image_hash"] for one in line["members"] if one["stays"]])
    groups = [group for group in groups if len(group) > 1]
    tf.io.gfile.makedirs(features)
    records.write_text(f"{features}/{NEAR_FILE}", json.dumps(groups) + "\n")
