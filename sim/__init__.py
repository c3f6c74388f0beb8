"""The simulated side: MuJoCo models, batched environments, randomization, sensors, and drivers on a simulated clock.

Importing it makes every task known to gymnasium, as `terrafirma/<task>-v0`.
"""

import gymnasium

from sim import tasks

for _name in tasks.names():
    if f"terrafirma/{_name}-v0" not in gymnasium.registry:
        gymnasium.register(id=f"terrafirma/{_name}-v0", entry_point="sim.faces:SingleEnv", kwargs={"task": _name})
