"""Motors that are not there: their bytes on a real port, their physics in MuJoCo, and their troubles on request.

`python -m sim.emulators robot=so101 motors=feetech port=/tmp/arm` runs in a process of its own and speaks what the
motors speak, so that a driver, a loop and a wizard can be tried before there is a robot, and broken without harm.
"""
