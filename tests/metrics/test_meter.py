"""The losses between two reports."""

import math

import pytest
import torch

from metrics.meter import LossMeter


def test_it_gives_means_and_starts_anew():
    meter = LossMeter()
    for ce, kd in ((1.0, 4.0), (2.0, 8.0)):
        meter.add({"ce": torch.tensor(ce, requires_grad=True), "kd": torch.tensor(kd), "gradient": torch.tensor(7.0)})
    assert meter.means() == {"ce": 1.5, "kd": 6.0, "total": 7.5}
    assert meter.means() == {}
    meter.add({"ce": torch.tensor(5.0)})
    assert meter.means() == {"ce": 5.0, "total": 5.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_it_names_what_is_not_finite_once_and_leaves_its_iteration_out(value: float):
    meter = LossMeter()
    for ce, gradient in ((1.0, 1.0), (2.0, value), (3.0, 1.0)):
        meter.add({"ce": torch.tensor(ce), "gradient": torch.tensor(gradient)})
    (fault,) = meter.faults()
    assert fault[:3] == (1, 0, "gradient") and (fault.value == value or math.isnan(value))
    meter.add({"ce": torch.tensor(value), "gradient": torch.tensor(value)})
    assert [fault[:3] for fault in meter.faults()] == [(0, 0, "ce"), (0, 0, "gradient")]
    assert meter.faults() == []
    assert meter.means() == {"ce": 2.0, "total": 2.0}
    meter.add({"ce": torch.tensor(value), "gradient": torch.tensor(1.0)})
    assert len(meter.faults()) == 1 and meter.means() == {}


def test_it_resumes_from_its_state():
    meter, other = LossMeter(), LossMeter()
    for ce in (1.0, math.nan, 1 / 3):
        meter.add({"ce": torch.tensor(ce)})
    meter.faults()
    other.load_state_dict(meter.state_dict(), torch.device("cpu"))
    for one in (meter, other):
        one.add({"ce": torch.tensor(0.25)})
        assert one.faults() == []
    assert meter.means() == other.means()
