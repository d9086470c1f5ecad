"""Jobs in Redis and RQ for the front end: records, queues, results, changes, live workers, admission control."""
