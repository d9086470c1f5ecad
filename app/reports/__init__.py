"""What is made of the frame records of a whole job: summary, timeline, and the shape of Hume's API."""
