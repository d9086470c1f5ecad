"""The stages put together, and what is loaded once for them: bundle, engine, detector."""
