"""Thresholds of all rules: `screen:` of configs/ingest.yaml."""

from __future__ import annotations

from dataclasses import dataclass, fields

from robot.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenConfig:
    """When a rule speaks. Raising a threshold makes its rule quieter."""

    gap_periods: float = 5.0
    """Rows farther apart than this many usual periods, and `gap_s` more than usual, are a `gap` or a `clock_jump`."""
    gap_s: float = 0.02
    """[s]"""
    jump_travel: float = 0.3
    """A step of time in which joints travel less than this share of what their speed says is a `clock_jump`: no time
    has passed for them."""
    lag_s: float = 0.012
    """A channel this late or early against another [s] is a `lag` ..."""
    lag_periods: float = 2.5
    """... if it is also so many periods."""
    follow_s: float = 0.025
    """Lag [s] from which on a motion is told to follow its command late."""
    drift_s: float = 0.02
    """Change of a lag over an episode [s] from which on two channels' clocks `drift` apart."""
    unit_factor: float = 2.0
    """Velocity and slope of the position that differ by this factor are a `unit` suspicion."""
    unit_correlation: float = 0.8
    """Size of their correlation from which on the factor means something."""
    over_speed: float = 2.0
    """Positions that step faster than this many times the joint's limit are a `spike`, `wrapped` or `over_speed`."""
    implausible_speed: float = 2.0
    """A robot that seems to move at this many times its speed limit throughout is recorded in another unit."""
    stuck_s: float = 0.04
    """Shortest time [s] for which a reading that should change must stay the same to be `stuck`."""
    stuck_rad: float = 0.02
    """Travel [rad] that a stuck reading must have missed."""
    stuck_command: float = 0.15
    """A servo must have been commanded over this range [rad] for a reading that never changes to be `stuck`."""
    stale_s: float = 0.3
    """A velocity that keeps one value so long [s], while the position stays, is `stale_velocity`."""
    quantized_share: float = 0.1
    """Steps of a velocity this large, as a share of its deviation, are `quantized`; so are other readings' whose
    resolution the robot's file does not tell ..."""
    quantized_rad: float = 0.2
    """Travel [rad] that a joint must have for its velocity's steps to be judged so."""
    quantized_factor: float = 1.8
    """... and all steps that are this many times coarser than it tells."""
    saturated_share: float = 0.005
    """Share of the rows at one extreme value from which on a reading is `saturated`."""
    saturated_excess: float = 0.05
    """Share by which what is read must exceed its plateau by other channels' word."""
    short_s: float = 1.25
    """An episode shorter than this [s] holds no evaluation window."""
    quaternion: float = 0.01
    """Departure of an orientation's norm from 1."""
    energy_factor: float = 8.0
    """A torque whose work is so many times too large or small for the model's energy is a `unit` suspicion."""
    energy_sigma: float = 4.0
    """Deviations by which the work of a torque must have the wrong sign to be a `sign` suspicion."""
    unexplained: float = 0.6
    """An episode of which no parameters of the robot explain this share of the acceleration is `unexplained`."""
    outlier_factor: float = 3.0
    """A prediction error of the nominal model this many times the other episodes' median is an `outlier` ..."""
    outlier_share: float = 1.0
    """... if it also is this share of the error of predicting that nothing accelerates."""
    poison_share: float = 0.005
    """Share of an episode's motion that its own parameters explain and the others' do not, from which on it is
    suspected to be `poisoned` ..."""
    poison_factor: float = 5.0
    """... if that is also so many times the other episodes' median ..."""
    poison_moves: float = 3.0
    """... and the estimate would move so many times as far with it as with another."""
    poison_zero: float = 0.15
    """Distance of an episode's joint zero from the others' median [rad] from which on it is suspected, too: hands set
    zeros worse than that only on purpose."""
    plausible: float = 6.0
    """Estimates that are this factor away from the nominal robot's are another robot's (`implausible`)."""
    episodes: int = 4
    """Fewest episodes that can be compared with one another."""
    leak_s: float = 0.5
    """A stretch this long [s] that stands in two recordings is a `leakage`."""
    figures: int = 60
    """Figures in screening.html; further findings stand in its table alone."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"screen.{field.name} is {getattr(self, field.name)}; it must be above 0.")
