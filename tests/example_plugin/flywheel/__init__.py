"""A flywheel on a motor: the example of a plug-in for terrafirma."""
