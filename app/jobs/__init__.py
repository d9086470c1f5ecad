"""Jobs as the front end has them in Redis and RQ: records, queues, results, changes, live workers, admission."""
