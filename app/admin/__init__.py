"""What operators do by hand: `python -m app.admin`."""
