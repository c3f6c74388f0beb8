"""The simulated side: MuJoCo models, batched environments, randomization, sensors, and drivers on a simulated clock."""
