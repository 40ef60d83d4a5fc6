"""Backbones by name. A module in `architectures/` adds one."""

from __future__ import annotations

from imgpipe.models.backbones.backbone import Backbone

__all__ = ["Backbone"]
