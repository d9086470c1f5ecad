"""Taking a request's body in: what it is, its options, and the way into the upload store."""
