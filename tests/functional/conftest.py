"""Fixtures of several modules."""

import pytest

pytest.register_assert_rewrite("collect_world", "function_world", "job_world", "process_stage")

from local_world import world  # noqa: E402

__all__ = ["world"]
