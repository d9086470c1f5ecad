"""Everything of the worker that knows Redis or RQ: jobs, their executions, and what the worker says of itself."""
