"""Guards taken away from a whole service: functions that a nursery calls in a child before it runs the service, one bug each."""
