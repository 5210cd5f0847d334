"""What the cluster knows of tasks, whoever submitted them: results by id, records, submitting again, forgetting."""
