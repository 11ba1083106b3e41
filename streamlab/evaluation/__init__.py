"""The evaluator: predictions become a record, and the record becomes metrics."""
