"""What tests share: a deployment on the session's real Kafka, and readers of its topics."""
