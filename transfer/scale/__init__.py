"""Beyond one process: rollouts, and what else can be spread, on the engines that exist."""
