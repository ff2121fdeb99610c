"""A tower's layers from its input to its output: learning rates fall along them, and freezing goes up to one."""

from __future__ import annotations

from torch import nn

from img2prompt.errors import ConfigError
from img2prompt.models.tower_base import Tower
from img2prompt.training.optim import Place

STEM = "stem"  # what comes before the first block


def places(tower: Tower) -> dict[str, Place]:
    """Where each parameter lies, for `optim.parameter_groups`."""
    top = len(tower.blocks) + 1
    return {name: Place(top - depth, 0 < depth < top) for name, depth in tower.depths().items()}


def freeze_up_to(tower: Tower, block: str) -> list[nn.Module]:
    """Stops the training of a tower from its input up to a block, which is included.

    Args:
        tower: the tower.
        block: the block's name as `tower.blocks` has it, its number (0 the first), or "stem" for what lies before.

    Returns:
        The frozen modules: whoever puts the tower into training mode puts these back into evaluation mode.

    Raises:
        ConfigError: there is no such block.
    """
    depth = _depth(tower, block)
    depths = tower.depths()
    for name, parameter in tower.named_parameters():
        if depths[name] <= depth:
            parameter.requires_grad_(False)
    frozen = [module for module in tower.modules() if _all_frozen(module)]
    for module in frozen:
        module.eval()
    return frozen


def _depth(tower: Tower, block: str) -> int:
    names = [name for name, _ in tower.blocks]
    if block == STEM:
        return 0
    if block.isdigit() and int(block) < len(names):
        return int(block) + 1
    if block not in names:
        raise ConfigError(
            f"model.model.freeze: the tower has no block {block!r}; give stem, 0 to {len(names) - 1},"
            f" or a name from {names[0]} to {names[-1]}"
        )
    return names.index(block) + 1


def _all_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
