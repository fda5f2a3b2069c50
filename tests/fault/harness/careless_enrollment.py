"""Enrollment that never compares its offset rows with the logs: it goes on wherever the broker lets it.

python -m tests.fault.harness.careless_enrollment worker
"""

from services.enrollment.main import SERVICE
from shared.chassis import stops
from shared.chassis.service import run

if __name__ == "__main__":
    stops.lost = lambda *_: None
    run(SERVICE)
