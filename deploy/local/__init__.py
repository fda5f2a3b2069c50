"""The whole system on one machine without a container engine: real Kafka, real PostgreSQL, four services."""
