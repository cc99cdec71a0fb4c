"""From a plan and an inventory to mount requests: which machines, which restore points."""
