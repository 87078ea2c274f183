"""Training: one loop, its checkpoints, optimisers, schedules and run folders."""
