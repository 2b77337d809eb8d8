"""Load for the example service, through kpa's proxy.

    locust -f locustfile.py --host=http://localhost:8080 --users 100 --spawn-rate 10 --headless --run-time 5m

Locust is a closed loop: a user who waits sends nothing, so a slow server lowers its own load. For latency at a
fixed rate use `loadtest run --rate`, which counts from the moment a request should have left.
"""

import json
import os
from pathlib import Path

from locust import HttpUser, between, task

HOST = os.environ.get("KPA_HOST", "custom-model-autoscaling.default.example.com")
BODY = json.loads(Path(__file__).with_name("input.json").read_text())


class Caller(HttpUser):
    """Predicts, reads the answer, thinks for a moment."""

    wait_time = between(0.1, 0.5)

    @task
    def predict(self):
        with self.client.post(
            "/v1/models/custom-model:predict",
            json=BODY,
            headers={"Host": HOST},
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif len(answer.json().get("predictions", [])) != len(BODY["instances"]):
                answer.failure("not as many predictions as instances")
