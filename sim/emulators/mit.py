"""MIT-mode motors on a CAN bus, emulated."""

from __future__ import annotations

from robot.drivers import mit_protocol as mit
from robot.drivers.mit_protocol import MitError, State
from sim.emulators.motors import ROOM_C, Body, Reply, Request


class MitMotors:
    """Motors that obey command frames once enabled, and answer each frame with their state."""

    def __init__(self, body: Body, motors: tuple[mit.Range, ...], temperature: bool) -> None:
        """`temperature`: state frames of 8 bytes, as of later firmware."""
        self._body, self._motors, self._long = body, motors, temperature
        self._ids = {id: k for k, id in enumerate(body.world.wires.ids)}
        self.enabled = [False] * len(motors)
        self._zero = [0.0] * len(motors)

    def receive(self, request: Request, now_ns: int) -> list[Reply]:
        """As Motors."""
        k = self._ids.get(request.id)
        if k is None or self._body.away(k, now_ns):
            return []
        if request.data == mit.ENABLE:
            self.enabled[k] = True
        elif request.data == mit.DISABLE:
            self.enabled[k] = False
            self._body.order(k, now_ns, False)
        elif request.data == mit.SET_ZERO:
            self._zero[k] = self._body.world.motor(k)[0]
        elif self.enabled[k]:
            self._obey(k, request.data, now_ns)
        return [self._state(k, now_ns)]

    def tick(self, now_ns: int) -> None:
        """As Motors."""
        self._body.tick(now_ns, self._forget)

    def restart(self) -> None:
        """As Motors."""
        for k in range(len(self.enabled)):
            self._forget(k)

    def _forget(self, k: int) -> None:
        self.enabled[k] = False
        self._body.world.order(k)

    def _obey(self, k: int, data: bytes, now_ns: int) -> None:
        try:
            c = mit.decode_command(data, self._motors[k])
        except MitError:
            return
        true = self._body.world.motor(k)[0]
        # a position is wanted in the motor's own count, which starts at its zero and wraps
        position = true + (c.position - self._count(k, true))
        self._body.order(k, now_ns, True, position=position, velocity=c.velocity, effort=c.torque, kp=c.kp, kd=c.kd)

    def _count(self, k: int, position: float) -> float:
        """The position that the motor reports: it wraps at the ends of its range."""
        top = self._motors[k].position
        return (position - self._zero[k] + top) % (2.0 * top) - top

    def _state(self, k: int, now_ns: int) -> Reply:
        position, velocity, torque = self._body.sense(k, now_ns)
        motor, id = self._motors[k], self._body.world.wires.ids[k]
        celsius = self._body.temperature(k, now_ns)
        hot = celsius > ROOM_C
        state = State(id, self._count(k, position), velocity, torque, celsius if self._long or hot else None, int(hot))
        foreign = mit.encode_state(State(120, 1.0, 0.0, 0.0, None, 0), motor)
        return Reply(k, mit.encode_state(state, motor), foreign)
