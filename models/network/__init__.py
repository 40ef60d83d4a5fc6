"""The network: how it is built, stored, cut for fine-tuning, and explained."""
