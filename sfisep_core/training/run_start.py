"""Log the start of a run, and show it to the user."""

import logging
from dataclasses import asdict

from sfisep_core.training.distributed import Processes
from sfisep_core.training.run_data import RunData
from sfisep_core.training.run_log import RunLog
from sfisep_core.training.state import RunState
from sfisep_core.wording import counted

_logger = logging.getLogger(__name__)


def log_start(
    state: RunState, log: RunLog, *, previous_data: RunData | None, processes: Processes
) -> None:
    """Write the event "start" to a run's log, and show it to the user.

    Args:
        state: The run.
        log: Its log.
        previous_data: Data of the run before it was stopped; None for a new run.
        processes: The processes that share it.
    """
    config = state.config
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    assert state.data is not None
    changed = previous_data is not None and previous_data.differences(state.data)
    log.write(
        event="start",
        step=state.step,
        config=asdict(config),
        parameters=parameters,
        processes=processes.world_size,
        data=state.data.record(),
        previous_data=previous_data.record() if previous_data and changed else None,
    )
    each = config.batch_size // (processes.world_size * config.accumulation)
    if processes.is_first:
        if changed:
            consequence = "; the best score begins anew" if "valid" in changed else ""
            _logger.warning("the run goes on with other data: %s%s", state.data, consequence)
        _logger.info(
            "%s; batches of %s = %s x %s x %s",
            counted(parameters, "parameter"),
            counted(config.batch_size, "example"),
            f"{processes.world_size} process{'es' if processes.world_size > 1 else ''}",
            f"{config.accumulation} micro-batch{'es' if config.accumulation > 1 else ''}",
            counted(each, "example"),
        )
