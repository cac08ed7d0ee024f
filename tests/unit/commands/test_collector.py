from __future__ import annotations

import gc

from bridge.commands import collector


def test_full_collections_become_rare() -> None:
    """What is there at the start is out of their sight, and they come ten times as rarely; young cycles go as
    before.
    """
    before = gc.get_threshold()
    try:
        collector.settle()

        assert gc.get_freeze_count() > 0
        assert (*before[:2], 100) == gc.get_threshold()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
