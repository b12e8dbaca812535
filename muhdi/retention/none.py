"""No retention: plain sequential fine-tuning, the paper's *baseline*."""

from __future__ import annotations

from muhdi.recipe.retentions import NoRetentionConfig
from muhdi.retention.base import Retention


class NoRetention(Retention):
    """Nothing is done for the earlier domains."""

    config_class = NoRetentionConfig
