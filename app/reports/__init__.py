"""Reports on the frame records of a whole job: summary, timeline, and the format of Hume's API."""
